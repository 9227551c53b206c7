# SPDX-License-Identifier: Apache-2.0
"""Whatever somebody with `users.write` tries: nobody ever holds more than the two of them did."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from metropolis.api.users_pb2 import (
    CreateGroupRequest,
    CreateUserRequest,
    DeleteGroupRequest,
    DeleteUserRequest,
    GrantRequest,
    Grants,
    RevokeRequest,
)
from metropolis.base.errors import MetropolisError
from metropolis.cluster.planner.authorization import PERMISSIONS, ROLES
from metropolis.cluster.services.accounts import load
from metropolis.cluster.services.grants import create_group, delete_group, grant, revoke
from metropolis.cluster.services.users import create_user, delete_user
from unit.cluster.accounts_kit import Person, create, key_number, log_in, password_of, shown
from unit.cluster.harness import OWNER, Bench, run

ANN = Person(name="ann")
USERS, GROUPS = ("ann", "bob", "cid", "dan"), ("g1", "g2", "g3")
OPERATIONS = 60


def some_grants(rng: Random, *, groups: bool) -> Grants:
    return Grants(
        roles=rng.sample(list(ROLES), rng.randrange(2)),
        permissions=rng.sample(list(PERMISSIONS), rng.randrange(3)),
        groups=rng.sample(GROUPS, rng.randrange(2)) if groups else [],
    )


def operation(rng: Random) -> tuple[Callable[..., Awaitable[Any]], Any]:
    user, group = rng.choice(USERS), rng.choice(GROUPS)
    for_user, for_group = some_grants(rng, groups=True), some_grants(rng, groups=False)
    operations: list[tuple[Callable[..., Awaitable[Any]], Any]] = [
        (create_user, CreateUserRequest(name=user, grants=for_user)),
        (delete_user, DeleteUserRequest(name=user)),
        (grant, GrantRequest(user=user, grants=for_user)),
        (grant, GrantRequest(group=group, grants=for_group)),
        (revoke, RevokeRequest(user=user, grants=for_user)),
        (revoke, RevokeRequest(group=group, grants=for_group)),
        (create_group, CreateGroupRequest(name=group, grants=for_group)),
        (delete_group, DeleteGroupRequest(name=group)),
    ]
    return rng.choice(operations)


@pytest.mark.parametrize("seed", range(25))
def test_no_sequence_of_changes_is_an_escalation(seed: int) -> None:
    rng = Random(seed)

    async def scenario(bench: Bench) -> None:
        await create(bench, "ann", roles=["viewer"], permissions=["users.write", "node.labels"])
        done = 0
        for _ in range(OPERATIONS):
            by = OWNER if rng.random() < 0.3 else ANN.peer
            before = await load(bench.leader)
            act, request = operation(rng)
            try:
                await act(bench.leader, request, by)
            except MetropolisError:
                continue
            done += 1
            after = await load(bench.leader)
            if by is OWNER:
                continue
            own = before.held_by("ann")
            for name in after.users:
                assert after.held_by(name) <= before.held_by(name) | own, (request, name)
            for name in set(before.users) - set(after.users):
                assert before.held_by(name) <= own, (request, name)
            for user in after.users.values():
                assert user.granted.groups <= set(after.groups), request
        assert done

    run(scenario, seed=seed)


@pytest.mark.parametrize("seed", range(5))
def test_a_login_and_a_grant_at_the_same_time_both_take_effect(seed: int) -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "bob")
        bob = Person(name="bob", key=key_number(seed))
        await asyncio.gather(
            log_in(bench, bob),
            grant(bench.leader, GrantRequest(user="bob", grants=Grants(roles=["viewer"])), OWNER),
        )
        found = await shown(bench, "bob")
        assert list(found.grants.roles) == ["viewer"]
        assert len(found.certificates) == 1

    run(scenario, seed=seed)


def test_the_store_never_holds_a_password() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        text = await password_of(bench, "ann")
        items = (await bench.store.range(b"")).items
        assert items
        for shape in (text, text.replace("-", ""), text.lower()):
            assert not any(shape.encode() in item.value for item in items)

    run(scenario)
