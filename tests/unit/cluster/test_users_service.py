# SPDX-License-Identifier: Apache-2.0
"""Making, changing and forgetting users and groups."""

import asyncio

import pytest
from google.protobuf.duration_pb2 import Duration

from metropolis.api.users_pb2 import (
    CreateGroupRequest,
    DeleteGroupRequest,
    DeleteUserRequest,
    GrantRequest,
    Grants,
    IssuePasswordRequest,
    ListUsersRequest,
    RevokeCertificatesRequest,
    RevokeRequest,
)
from metropolis.base.errors import (
    AlreadyExistsError,
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    MetropolisError,
    NotFoundError,
    PermissionDeniedError,
)
from metropolis.cluster.planner.authorization import ROLES
from metropolis.cluster.services.grants import create_group, delete_group, grant, revoke
from metropolis.cluster.services.users import (
    delete_user,
    issue_password,
    list_users,
    revoke_certificates,
)
from metropolis.cluster.state import accounts
from metropolis.consensus.store import Put
from metropolis.rpc.status import NotLeaderError
from unit.cluster.accounts_kit import Person, create, key_number, log_in, password_of, shown
from unit.cluster.harness import FIRST, OWNER, Bench, run

ANN, BOB = Person(name="ann", key=key_number(1)), Person(name="bob", key=key_number(2))


async def group(bench: Bench, name: str, **granted: list[str]) -> None:
    request = CreateGroupRequest(name=name, grants=Grants(**granted))
    await create_group(bench.leader, request, OWNER)


def test_a_user_holds_what_its_roles_permissions_and_groups_give() -> None:
    async def scenario(bench: Bench) -> None:
        await group(bench, "oncall", permissions=["node.power"])
        await create(bench, "ann", roles=["viewer"], groups=["oncall"], permissions=["audit.read"])
        found = await shown(bench, "ann")
        assert set(found.permissions) == ROLES["viewer"] | {"node.power", "audit.read"}
        held = await grant(
            bench.leader,
            GrantRequest(group="oncall", grants=Grants(permissions=["node.labels"])),
            OWNER,
        )
        assert held.grants.permissions == ["node.labels", "node.power"]
        assert "node.labels" in (await shown(bench, "ann")).permissions
        left = await revoke(
            bench.leader,
            RevokeRequest(user="ann", grants=Grants(groups=["oncall"], roles=["viewer"])),
            OWNER,
        )
        assert left.grants == Grants(permissions=["audit.read"])
        assert (await shown(bench, "ann")).permissions == ["audit.read"]

    run(scenario)


@pytest.mark.parametrize(
    ("name", "granted"),
    [
        ("", {}),
        ("owner", {}),
        ("Ann", {}),
        ("ann/..", {}),
        ("metropolis-00", {}),
        ("a" * 64, {}),
        ("ann", {"roles": ["king"]}),
        ("ann", {"permissions": ["node.fly"]}),
        ("ann", {"permissions": ["node.self"]}),
        ("ann", {"permissions": ["owner.rotate"]}),
        ("ann", {"groups": ["nobody"]}),
    ],
)
def test_what_cannot_be_a_user_is_refused(name: str, granted: dict[str, list[str]]) -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(InvalidArgumentError):
            await create(bench, name, by=OWNER, **granted)
        assert not (await list_users(bench.leader, ListUsersRequest(), OWNER)).users

    run(scenario)


def test_a_user_is_made_once_and_deleted_once() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        with pytest.raises(AlreadyExistsError):
            await create(bench, "ann")
        await delete_user(bench.leader, DeleteUserRequest(name="ann"), OWNER)
        with pytest.raises(NotFoundError):
            await delete_user(bench.leader, DeleteUserRequest(name="ann"), OWNER)

    run(scenario)


def test_who_may_write_users_gives_no_more_than_it_holds() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann", roles=["viewer"], permissions=["users.write", "node.power"])
        await create(bench, "bob", roles=["operator"])
        await create(bench, "cid", permissions=["node.power"], by=ANN.peer)
        refused = [
            create(bench, "dan", roles=["operator"], by=ANN.peer),
            password_of(bench, "bob", by=ANN.peer),
            delete_user(bench.leader, DeleteUserRequest(name="bob"), ANN.peer),
            grant(
                bench.leader,
                GrantRequest(user="ann", grants=Grants(permissions=["node.delete"])),
                ANN.peer,
            ),
            grant(
                bench.leader,
                GrantRequest(user="cid", grants=Grants(roles=["node-admin"])),
                ANN.peer,
            ),
            revoke(
                bench.leader,
                RevokeRequest(user="bob", grants=Grants(roles=["operator"])),
                ANN.peer,
            ),
            create_group(
                bench.leader,
                CreateGroupRequest(name="all", grants=Grants(roles=["operator"])),
                ANN.peer,
            ),
            revoke_certificates(
                bench.leader,
                RevokeCertificatesRequest(user="bob", all=RevokeCertificatesRequest.All()),
                ANN.peer,
            ),
        ]
        for attempt in refused:
            with pytest.raises(PermissionDeniedError, match="which you do not hold yourself"):
                await attempt
        assert "node.delete" not in (await shown(bench, "ann")).permissions

    run(scenario)


def test_joining_a_group_that_holds_more_is_refused_too() -> None:
    async def scenario(bench: Bench) -> None:
        await group(bench, "ops", roles=["operator"])
        await create(bench, "ann", permissions=["users.write"])
        with pytest.raises(PermissionDeniedError):
            await grant(
                bench.leader, GrantRequest(user="ann", grants=Grants(groups=["ops"])), ANN.peer
            )

    run(scenario)


def test_a_group_gets_no_more_than_its_giver_holds() -> None:
    async def scenario(bench: Bench) -> None:
        await group(bench, "ops")
        await create(bench, "ann", permissions=["users.write"])
        request = GrantRequest(group="ops", grants=Grants(roles=["operator"]))
        with pytest.raises(PermissionDeniedError, match="group 'ops' then holds"):
            await grant(bench.leader, request, ANN.peer)

    run(scenario)


@pytest.mark.parametrize("seed", range(10))
def test_nobody_joins_a_group_while_it_is_deleted(seed: int) -> None:
    async def scenario(bench: Bench) -> None:
        await group(bench, "ops", roles=["operator"])
        await create(bench, "ann")
        outcomes = await asyncio.gather(
            delete_group(bench.leader, DeleteGroupRequest(name="ops"), OWNER),
            grant(bench.leader, GrantRequest(user="ann", grants=Grants(groups=["ops"])), OWNER),
            return_exceptions=True,
        )
        assert sum(isinstance(each, MetropolisError) for each in outcomes) == 1
        answer = await list_users(bench.leader, ListUsersRequest(), OWNER)
        known = {each.name for each in answer.groups}
        assert set(answer.users[0].grants.groups) <= known

    run(scenario, seed=seed)


def test_nodes_change_no_users() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(PermissionDeniedError):
            await create(bench, "ann", by=FIRST.peer)

    run(scenario)


def test_a_group_with_members_stays_and_one_without_goes() -> None:
    async def scenario(bench: Bench) -> None:
        await group(bench, "ops", roles=["operator"])
        with pytest.raises(AlreadyExistsError):
            await group(bench, "ops")
        await create(bench, "ann", groups=["ops"])
        with pytest.raises(FailedPreconditionError, match="'ann'"):
            await delete_group(bench.leader, DeleteGroupRequest(name="ops"), OWNER)
        await delete_user(bench.leader, DeleteUserRequest(name="ann"), OWNER)
        await delete_group(bench.leader, DeleteGroupRequest(name="ops"), OWNER)
        with pytest.raises(NotFoundError):
            await delete_group(bench.leader, DeleteGroupRequest(name="ops"), OWNER)

    run(scenario)


def test_a_group_is_no_member_of_a_group() -> None:
    async def scenario(bench: Bench) -> None:
        await group(bench, "ops")
        with pytest.raises(InvalidArgumentError):
            await grant(
                bench.leader, GrantRequest(group="ops", grants=Grants(groups=["ops"])), OWNER
            )

    run(scenario)


def test_a_damaged_user_hides_nobody_and_can_be_deleted_by_the_owner_only() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann", roles=["viewer"], permissions=["users.write"])
        await bench.store.transact([], [Put(accounts.user_key("bob"), b"\xff\xff")])
        assert (await shown(bench, "bob")).is_damaged
        assert (await shown(bench, "ann")).permissions
        with pytest.raises(DataLossError):
            await password_of(bench, "bob")
        with pytest.raises(PermissionDeniedError):
            await delete_user(bench.leader, DeleteUserRequest(name="bob"), ANN.peer)
        await delete_user(bench.leader, DeleteUserRequest(name="bob"), OWNER)

    run(scenario)


@pytest.mark.parametrize("lifetime_s", [0, -1, 7 * 86400 + 1])
def test_a_password_lives_for_a_week_at_most(lifetime_s: int) -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        request = IssuePasswordRequest(user="ann", lifetime=Duration(seconds=lifetime_s))
        with pytest.raises(InvalidArgumentError):
            await issue_password(bench.leader, request, OWNER)

    run(scenario)


def test_certificates_are_revoked_by_serial_by_key_or_all() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        for number in range(4):
            await log_in(bench, Person(name="ann", key=key_number(number)))
        listed = (await shown(bench, "ann")).certificates
        assert len(listed) == 4
        by_serial = RevokeCertificatesRequest(user="ann", serial=listed[0].serial)
        gone = await revoke_certificates(bench.leader, by_serial, OWNER)
        assert list(gone.revoked) == [listed[0]]
        with pytest.raises(NotFoundError):
            await revoke_certificates(bench.leader, by_serial, OWNER)
        by_key = RevokeCertificatesRequest(user="ann", public_key=listed[2].public_key)
        await revoke_certificates(bench.leader, by_key, OWNER)
        assert list((await shown(bench, "ann")).certificates) == [listed[1], listed[3]]
        everything = RevokeCertificatesRequest(user="ann", all=RevokeCertificatesRequest.All())
        await revoke_certificates(bench.leader, everything, OWNER)
        assert not (await shown(bench, "ann")).certificates

    run(scenario)


def test_revoking_everything_ends_the_password_too() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        await password_of(bench, "ann")
        assert (await shown(bench, "ann")).HasField("password_expires")
        everything = RevokeCertificatesRequest(user="ann", all=RevokeCertificatesRequest.All())
        await revoke_certificates(bench.leader, everything, OWNER)
        assert not (await shown(bench, "ann")).HasField("password_expires")

    run(scenario)


@pytest.mark.parametrize("user", ["nobody", "", "\N{SNOWMAN}", "../owner"])
def test_what_is_asked_of_nobody_is_not_found(user: str) -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(NotFoundError):
            await password_of(bench, user)
        with pytest.raises(NotFoundError):
            await delete_user(bench.leader, DeleteUserRequest(name=user), OWNER)
        subject = GrantRequest(user=user, grants=Grants(roles=["viewer"]))
        with pytest.raises(NotFoundError):
            await grant(bench.leader, subject, OWNER)
        subject = GrantRequest(group=user, grants=Grants(roles=["viewer"]))
        with pytest.raises(NotFoundError):
            await grant(bench.leader, subject, OWNER)

    run(scenario)


def test_a_deposed_leader_changes_no_users() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        await bench.depose()
        failed: MetropolisError | None = None
        try:
            await delete_user(bench.leader, DeleteUserRequest(name="ann"), OWNER)
        except NotLeaderError as error:
            failed = error
        assert failed is not None
        assert await bench.raw(accounts.user_key("ann")) is not None

    run(scenario)


def test_no_password_and_no_digest_reaches_the_log() -> None:
    async def scenario(bench: Bench) -> None:
        await create(bench, "ann")
        password = await password_of(bench, "ann")
        assert password not in bench.log_text()
        stored = await bench.store.range(accounts.PREFIX)
        record = accounts.decode(stored.items).users["ann"]
        assert record.message is not None
        assert "password" not in repr(record)

    run(scenario)
