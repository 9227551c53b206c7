# SPDX-License-Identifier: Apache-2.0
"""Tables that servers judge users by: of the leader, and of those who only hear it."""

import asyncio

import pytest

from metropolis.api.users_pb2 import (
    AccessEvent,
    AccessTable,
    CanIRequest,
    DeleteUserRequest,
    Grants,
    RevokeRequest,
    RotateOwnerKeyRequest,
    WatchAccessRequest,
    WhoAmIRequest,
    WhoAmIResponse,
)
from metropolis.base.errors import (
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from metropolis.cluster.access import BEAT_S, DEAF_S, NOBODY, Access, HeardAccess, fingerprint
from metropolis.cluster.office import Office, Presiding
from metropolis.cluster.services.aaa import escrow
from metropolis.cluster.services.grants import revoke
from metropolis.cluster.services.owner_key import rotate_owner_key
from metropolis.cluster.services.users import delete_user
from metropolis.cluster.services.whoami import can_i, watch_access, who_am_i
from metropolis.cluster.state import accounts
from metropolis.consensus.store import Put
from metropolis.pki.rotation import sign_rotation
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.rpc.status import NotLeaderError
from metropolis.sim.loop import simulate
from unit.cluster.accounts_kit import Escrow, Person, asking, create, key_number, log_in
from unit.cluster.harness import FIRST, OWNER, OWNER_KEY, Bench, Call, ended, run

ANN = Person(name="ann")
Watching = Call[WatchAccessRequest, AccessEvent]


def table(*permissions: str, certificate: bytes = b"c", owner_key: bytes = b"") -> AccessTable:
    entry = AccessTable.Entry(
        name="ann", permissions=permissions, fingerprints=[fingerprint(certificate)]
    )
    return AccessTable(users=[entry], owner_public_key=owner_key)


def peer(name: str = "ann", certificate: bytes = b"c", key: bytes = b"k" * 32) -> Peer:
    return Peer(kind=PeerKind.USER, identity=name, certificate=certificate, public_key=key)


def test_a_table_admits_listed_certificates_of_listed_users_and_nobody_else() -> None:
    access = Access(table())
    assert access.why_refused(peer()) is None
    assert access.why_refused(peer(certificate=b"other")) == "the certificate was revoked"
    assert access.why_refused(peer("bob")) == "there is no such user"
    assert access.why_refused(FIRST.peer) is None
    assert access.why_refused(OWNER) is None


def test_a_rotated_owners_key_is_the_only_one() -> None:
    access = Access(table(owner_key=b"n" * 32))
    assert access.why_refused(peer("owner", key=b"n" * 32)) is None
    assert access.why_refused(peer("owner", key=b"o" * 32)) == "the owner's key was replaced"


def test_only_what_was_taken_closes_connections() -> None:
    before = Access(table("node.logs", "audit.read"))
    more = Access(table("node.logs", "audit.read", "node.power")).unwanted_since(before)
    less = Access(table("node.logs")).unwanted_since(before)
    gone = Access(AccessTable()).unwanted_since(before)
    assert [is_unwanted(peer()) for is_unwanted in (more, less, gone)] == [False, True, True]
    assert not any(
        is_unwanted(who) for is_unwanted in (more, less, gone) for who in (OWNER, FIRST.peer)
    )


def test_who_hears_nothing_admits_the_owner_only() -> None:
    async def scenario() -> None:
        heard = HeardAccess()
        with pytest.raises(UnavailableError, match="since its start"):
            heard.revoked(peer())
        assert heard.revoked(OWNER) is None
        assert heard.revoked(FIRST.peer) is None
        assert heard.hear(AccessEvent(table=table("node.logs", owner_key=OWNER_KEY)))
        await asyncio.sleep(DEAF_S - 1)
        assert heard.revoked(peer()) is None
        assert not heard.hear(AccessEvent())
        await asyncio.sleep(DEAF_S - 1)
        assert heard.revoked(peer()) is None
        await asyncio.sleep(2)
        with pytest.raises(UnavailableError, match=r"for 31 s.*only the owner"):
            heard.revoked(peer())
        assert heard.revoked(OWNER) is None
        assert heard.revoked(peer("owner")) is not None  # the last key heard of still counts

    simulate(scenario, seed=1)


def test_a_leader_judges_by_what_it_has_acknowledged() -> None:
    async def scenario(bench: Bench) -> None:
        office = Office(FIRST.node_id)
        with pytest.raises(NotLeaderError):
            office.grants(ANN.peer)  # whoever does not lead cannot know
        office.view.set(Presiding(bench.leader))
        await create(bench, "ann", roles=["viewer"])
        ann = await log_in(bench, ANN)
        assert office.revoked(ann.peer) is None
        assert "node.logs" in office.grants(ann.peer)
        taken = RevokeRequest(user="ann", grants=Grants(roles=["viewer"]))
        await revoke(bench.leader, taken, OWNER)
        assert "node.logs" not in office.grants(ann.peer)
        await delete_user(bench.leader, DeleteUserRequest(name="ann"), OWNER)
        assert office.revoked(ann.peer) == "there is no such user"
        assert "anything" in office.grants(OWNER)
        assert "cluster.read" not in office.grants(FIRST.peer)

    run(scenario)


def test_a_user_who_is_made_again_does_not_get_old_certificates_back() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        ann = await log_in(bench, ANN)
        await delete_user(bench.leader, DeleteUserRequest(name="ann"), OWNER)
        await create(bench, "ann")
        again = await log_in(bench, ANN)
        access = bench.leader.access.current
        assert access.why_refused(again.peer) is None
        assert access.why_refused(ann.peer) == "the certificate was revoked"

    run(scenario)


@pytest.mark.parametrize("damage", [b"\xff", b"", b"\x0a\x03ann"])
def test_a_damaged_owners_key_admits_no_owner(damage: bytes) -> None:
    async def scenario(bench: Bench) -> None:
        result = await bench.store.transact([], [Put(accounts.OWNER_KEY, damage)])
        await bench.leader.access.settle(result.revision)
        assert bench.leader.access.current.why_refused(OWNER) is not None

    run(scenario)


def test_nodes_hear_the_table_at_once_on_changes_and_a_beat_in_between() -> None:
    async def scenario(bench: Bench) -> None:
        call = Watching(FIRST.peer, WatchAccessRequest())
        task = bench.group.create_task(watch_access(bench.leader, call))
        (first,) = await call.wait_sent(1)
        assert first.HasField("table")
        await asyncio.sleep(BEAT_S * 2.5)
        assert [event.HasField("table") for event in call.sent] == [True, False, False]
        await create(bench, "ann", roles=["viewer"])
        await asyncio.sleep(1)
        assert [user.name for user in call.sent[-1].table.users] == ["ann"]
        await ended(task)
        with pytest.raises(PermissionDeniedError):
            await watch_access(bench.leader, Watching(OWNER, WatchAccessRequest()))

    run(scenario)


def test_everybody_learns_who_it_is_and_what_it_may_do() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann", roles=["viewer"])
        ann = await log_in(bench, ANN)
        answer = await who_am_i(bench.leader, WhoAmIRequest(), ann.peer)
        assert (answer.kind, answer.name) == (WhoAmIResponse.KIND_USER, "ann")
        assert list(answer.permissions) == ["cluster.read", "node.logs"]
        assert answer.HasField("not_after")
        owner = await who_am_i(bench.leader, WhoAmIRequest(), OWNER)
        assert owner.kind == WhoAmIResponse.KIND_OWNER
        node = await who_am_i(bench.leader, WhoAmIRequest(), FIRST.peer)
        assert list(node.permissions) == ["cluster.read", "node.self"]
        yes = await can_i(bench.leader, CanIRequest(method="GetNodes"), ann.peer)
        no = await can_i(bench.leader, CanIRequest(permission="node.delete"), ann.peer)
        assert (yes.allowed, no.allowed) == (True, False)
        assert (list(no.missing), list(no.roles)) == (["node.delete"], ["node-admin", "operator"])
        for request, error in (
            (CanIRequest(), InvalidArgumentError),
            (CanIRequest(permission="node.fly"), InvalidArgumentError),
            (CanIRequest(method="Fly"), NotFoundError),
            (CanIRequest(method="x" * 9000), NotFoundError),
        ):
            with pytest.raises(error):
                await can_i(bench.leader, request, ann.peer)

    run(scenario)


def test_the_owner_replaces_its_key_and_the_old_one_gets_nothing_any_more() -> None:
    old, new = Person(name="owner", key=key_number(1)), Person(name="owner", key=key_number(2))

    async def scenario(bench: Bench) -> None:
        ca = bench.born.ca_certificate

        async def rotate(to: Person, by: Peer, *, signed_for: bytes) -> bytes:
            request = RotateOwnerKeyRequest(
                new_public_key=to.public_key,
                signature=sign_rotation(to.key, ca=ca, old_public_key=signed_for),
            )
            return (await rotate_owner_key(bench.leader, request, by)).certificate

        await rotate(old, OWNER, signed_for=OWNER_KEY)
        for by, signed_for, error in (
            (ANN.peer, old.public_key, PermissionDeniedError),
            (OWNER, OWNER_KEY, PermissionDeniedError),
            (old.peer, OWNER_KEY, InvalidArgumentError),
        ):
            with pytest.raises(error):
                await rotate(new, by, signed_for=signed_for)
        with pytest.raises(InvalidArgumentError, match="already"):
            await rotate(old, old.peer, signed_for=old.public_key)
        certificate = await rotate(new, old.peer, signed_for=old.public_key)
        access = bench.leader.access.current
        assert access.why_refused(old.peer) == "the owner's key was replaced"
        assert access.why_refused(new.peer) is None
        call = Escrow(new.stranger, asking(new))
        await escrow(bench.leader, call)
        assert call.sent[0].emitted_certificate == certificate
        with pytest.raises(PermissionDeniedError):
            await escrow(bench.leader, Escrow(old.stranger, asking(old)))

    run(scenario)


def test_nobody_is_a_table_that_admits_no_user() -> None:
    assert NOBODY.why_refused(peer()) is not None
