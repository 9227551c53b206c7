# SPDX-License-Identifier: Apache-2.0
"""Which changes of the member list are allowed, in the real etcd and in its memory twin."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from urllib.parse import urlsplit

import pytest

from metropolis.base.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from metropolis.consensus.store import Member, Membership, Store

Run = Callable[[Callable[[Store, Membership], Awaitable[None]]], None]

_HOSTS = count()


def new_url() -> str:
    """A peer URL that no other test has used: etcd remembers removed ones for a second."""
    return f"https://metropolis-{next(_HOSTS):032x}:7834"


async def sole_member(membership: Membership) -> Member:
    (member,) = await membership.members()
    return member


def test_a_started_member_shows_its_name(run: Run) -> None:
    async def scenario(_: Store, membership: Membership) -> None:
        member = await sole_member(membership)
        assert (member.name, member.has_started, member.is_learner) == ("only", True, False)
        assert member.peer_urls == ("unix://only.peer:0",)

    run(scenario)


def test_an_added_learner_is_listed_by_its_host_until_it_starts(run: Run) -> None:
    async def scenario(_: Store, membership: Membership) -> None:
        url = new_url()
        added = await membership.add_learner(url)
        try:
            assert added.name == urlsplit(url).hostname
            assert added.peer_urls == (url,)
            assert added.is_learner
            assert not added.has_started
            assert added in await membership.members()
        finally:
            await membership.remove(added.member_id)
        assert (await sole_member(membership)).name == "only"

    run(scenario)


def test_only_one_learner_may_wait(run: Run) -> None:
    async def scenario(_: Store, membership: Membership) -> None:
        added = await membership.add_learner(new_url())
        try:
            with pytest.raises(FailedPreconditionError):
                await membership.add_learner(new_url())
            with pytest.raises(AlreadyExistsError):
                await membership.add_learner(added.peer_urls[0])
        finally:
            await membership.remove(added.member_id)

    run(scenario)


def test_a_learner_that_never_started_gets_no_vote(run: Run) -> None:
    async def scenario(_: Store, membership: Membership) -> None:
        added = await membership.add_learner(new_url())
        try:
            with pytest.raises(FailedPreconditionError):
                await membership.promote(added.member_id)
        finally:
            await membership.remove(added.member_id)

    run(scenario)


def test_a_voter_cannot_be_promoted(run: Run) -> None:
    async def scenario(_: Store, membership: Membership) -> None:
        with pytest.raises(FailedPreconditionError):
            await membership.promote((await sole_member(membership)).member_id)

    run(scenario)


def test_the_last_voter_cannot_be_removed(run: Run) -> None:
    async def scenario(_: Store, membership: Membership) -> None:
        with pytest.raises(FailedPreconditionError):
            await membership.remove((await sole_member(membership)).member_id)

    run(scenario)


def test_an_unknown_member_is_not_found(run: Run) -> None:
    async def scenario(_: Store, membership: Membership) -> None:
        for change in (
            membership.promote(77),
            membership.remove(77),
            membership.update(77, new_url()),
        ):
            with pytest.raises(NotFoundError):
                await change

    run(scenario)


def test_a_malformed_peer_url_is_refused(run: Run) -> None:
    async def scenario(_: Store, membership: Membership) -> None:
        for url in ("", "metropolis-00", "ftp://a:7834", "https://metropolis-00", "https://a:1/b"):
            with pytest.raises(InvalidArgumentError):
                await membership.add_learner(url)
        await sole_member(membership)

    run(scenario)


def test_a_member_may_move_to_a_free_peer_url(run: Run) -> None:
    async def scenario(_: Store, membership: Membership) -> None:
        added = await membership.add_learner(new_url())
        try:
            url = new_url()
            await membership.update(added.member_id, url)
            by_id = {member.member_id: member for member in await membership.members()}
            assert by_id.pop(added.member_id).peer_urls == (url,)
            ((taken,),) = (member.peer_urls for member in by_id.values())
            with pytest.raises(AlreadyExistsError):
                await membership.update(added.member_id, taken)
        finally:
            await membership.remove(added.member_id)

    run(scenario)


def test_a_removed_member_may_come_back_under_a_new_id(run: Run) -> None:
    async def scenario(_: Store, membership: Membership) -> None:
        url = new_url()
        first = await membership.add_learner(url)
        await membership.remove(first.member_id)
        second = None
        while second is None:
            try:
                second = await membership.add_learner(url)
            except UnavailableError:  # within the second of the removal
                await asyncio.sleep(0.1)
        await membership.remove(second.member_id)
        assert first.member_id != second.member_id

    run(scenario)


def test_only_voters_can_lead(run: Run) -> None:
    async def scenario(_: Store, membership: Membership) -> None:
        added = await membership.add_learner(new_url())
        try:
            for member_id in (added.member_id, 77):
                with pytest.raises(FailedPreconditionError):
                    await membership.move_leader(member_id)
        finally:
            await membership.remove(added.member_id)
        async with asyncio.timeout(5):
            await membership.move_leader((await sole_member(membership)).member_id)

    run(scenario)
