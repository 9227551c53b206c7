# SPDX-License-Identifier: Apache-2.0
"""Users: making and deleting users and groups, giving and taking, passwords, certificates."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from metropolis.api.accounts_pb2 import OneTimePassword, StoredUser
from metropolis.api.users_pb2 import (
    Certificate,
    CreateUserRequest,
    CreateUserResponse,
    DeleteUserRequest,
    DeleteUserResponse,
    Group,
    IssuePasswordRequest,
    IssuePasswordResponse,
    ListUsersRequest,
    ListUsersResponse,
    RevokeCertificatesRequest,
    RevokeCertificatesResponse,
    User,
)
from metropolis.base.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from metropolis.cluster.leader import Leader
from metropolis.cluster.planner.authorization import check_grants, check_name, check_reach
from metropolis.cluster.services.accounts import (
    change,
    damaged,
    find_user,
    held_by_record,
    load,
    spoken,
)
from metropolis.cluster.state import accounts
from metropolis.cluster.state.accounts import Accounts, UserRecord, granted_of, grants_of
from metropolis.cluster.state.fenced import Change, is_absent, is_unchanged
from metropolis.consensus.store import Delete, Put
from metropolis.pki.passwords import new_password
from metropolis.rpc.peer import Peer

USERS_MAX: Final = 2000  # all of them are one message to every node, which must stay below 4 MiB
PASSWORD_LIFETIME: Final = timedelta(days=1)
PASSWORD_LIFETIME_MAX: Final = timedelta(days=7)
PASSWORD_ATTEMPTS: Final = 10  # of 2^128; what it bounds is the noise


async def create_user(leader: Leader, request: CreateUserRequest, peer: Peer) -> CreateUserResponse:
    """Make a user without a certificate."""
    name = check_name(request.name, "user")
    granted = granted_of(request.grants)

    def decide(found: Accounts, caller: frozenset[str] | None) -> Change:
        check_grants(granted, found.groups, is_group=False)
        check_reach(caller, found.permissions_of(granted), f"user {name!r}")
        if name in found.users:
            raise AlreadyExistsError(
                f"user {name!r} exists already",
                remedy=f"Change what it may do with `metroctl user grant {name}`.",
            )
        if len(found.users) >= USERS_MAX:
            raise ResourceExhaustedError(
                f"the cluster has {USERS_MAX} users already", remedy="Delete some that are unused."
            )
        message = StoredUser(name=name, grants=grants_of(granted), created=_now(leader))
        key = accounts.user_key(name)
        return Change(
            compares=(is_absent(key),),
            operations=(Put(key, message.SerializeToString()),),
            sentence=f"created; holds {spoken(message.grants)}",
        )

    await change(leader, peer, decide)
    leader.log.info("User %s: created", name)
    return CreateUserResponse()


async def delete_user(leader: Leader, request: DeleteUserRequest, peer: Peer) -> DeleteUserResponse:
    """Forget a user, and with it every certificate."""

    def decide(found: Accounts, caller: frozenset[str] | None) -> Change:
        record = find_user(found, request.name)
        check_reach(caller, held_by_record(found, record), f"user {record.name!r}")
        key = accounts.user_key(record.name)
        return Change(
            compares=(is_unchanged(key, record.mod_revision),),
            operations=(Delete(key),),
            sentence="deleted, with every certificate",
        )

    await change(leader, peer, decide)
    leader.log.info("User %s: deleted", request.name)
    return DeleteUserResponse()


async def list_users(leader: Leader, _request: ListUsersRequest, _peer: Peer) -> ListUsersResponse:
    """List every user and every group."""
    found = await load(leader)
    now = leader.own.clock.wall()
    return ListUsersResponse(
        users=[_shown(found, record, _time(now)) for record in found.users.values()],
        groups=[
            Group(
                name=name,
                grants=grants_of(group.granted),
                members=found.members_of(name),
                is_damaged=group.message is None,
            )
            for name, group in found.groups.items()
        ],
    )


async def issue_password(
    leader: Leader, request: IssuePasswordRequest, peer: Peer
) -> IssuePasswordResponse:
    """Make a password that works once. Who asks again, after a lost reply, gets another one."""
    lifetime = PASSWORD_LIFETIME
    if request.HasField("lifetime"):
        lifetime = timedelta(seconds=request.lifetime.seconds)
        if not timedelta(0) < lifetime <= PASSWORD_LIFETIME_MAX:
            raise InvalidArgumentError(
                "a password can live for more than 0 s and at most 7 days",
                remedy="Ask for a lifetime within that.",
            )
    text, hashed = new_password(leader.own.entropy)
    expires = _time(leader.own.clock.wall() + lifetime)

    def decide(found: Accounts, caller: frozenset[str] | None) -> Change:
        record = find_user(found, request.user)
        check_reach(caller, held_by_record(found, record), f"user {record.name!r}")
        message = _copy(record)
        message.password.CopyFrom(
            OneTimePassword(
                salt=hashed.salt,
                digest=hashed.digest,
                expires=expires,
                attempts_left=PASSWORD_ATTEMPTS,
            )
        )
        return rewritten(record, message, "issued a one-time password")

    await change(leader, peer, decide)
    leader.log.info("User %s: a one-time password was issued", request.user)
    return IssuePasswordResponse(password=text, expires=expires)


async def revoke_certificates(
    leader: Leader, request: RevokeCertificatesRequest, peer: Peer
) -> RevokeCertificatesResponse:
    """Admit certificates of a user no more."""
    gone: list[Certificate] = []

    def decide(found: Accounts, caller: frozenset[str] | None) -> Change:
        record = find_user(found, request.user)
        check_reach(caller, held_by_record(found, record), f"user {record.name!r}")
        message = _copy(record)
        gone[:] = _chosen(request, message.certificates)
        rest = [each for each in message.certificates if each not in gone]
        del message.certificates[:]
        message.certificates.extend(rest)
        if request.WhichOneof("which") == "all":
            message.ClearField("password")
        return rewritten(record, message, f"revoked {len(gone)} certificates")

    await change(leader, peer, decide)
    leader.log.info("User %s: %d certificates revoked", request.user, len(gone))
    return RevokeCertificatesResponse(revoked=gone)


def rewritten(record: UserRecord, message: StoredUser, sentence: str) -> Change:
    """Return the change that writes a user who was read before."""
    key = accounts.user_key(record.name)
    return Change(
        compares=(is_unchanged(key, record.mod_revision),),
        operations=(Put(key, message.SerializeToString()),),
        sentence=sentence,
        object=record.name,
    )


def _copy(record: UserRecord) -> StoredUser:
    if record.message is None:
        raise damaged("user", record.name)
    message = StoredUser()
    message.CopyFrom(record.message)
    return message


def _chosen(
    request: RevokeCertificatesRequest, certificates: Sequence[Certificate]
) -> list[Certificate]:
    match request.WhichOneof("which"):
        case "all":
            return list(certificates)
        case "serial":
            serial = int.from_bytes(request.serial, "big")
            chosen = [each for each in certificates if int.from_bytes(each.serial, "big") == serial]
        case "public_key":
            chosen = [each for each in certificates if each.public_key == request.public_key]
        case _:
            raise InvalidArgumentError(
                "the request says not which certificates", remedy="Set serial, public_key or all."
            )
    if not chosen:
        raise NotFoundError(
            f"user {request.user!r} has no such certificate",
            remedy="List those that are admitted with `metroctl user list -o json`.",
        )
    return chosen


def _shown(found: Accounts, record: UserRecord, now: Timestamp) -> User:
    message = record.message
    if message is None:
        return User(name=record.name, is_damaged=True)
    shown = User(
        name=record.name,
        grants=grants_of(record.granted),
        permissions=sorted(found.held_by(record.name)),
        certificates=[each for each in message.certificates if is_later(each.not_after, now)],
        created=message.created,
    )
    password = message.password
    if message.HasField("password") and password.attempts_left and is_later(password.expires, now):
        shown.password_expires.CopyFrom(password.expires)
    return shown


def is_later(one: Timestamp, other: Timestamp) -> bool:
    """Compare two times."""
    return (one.seconds, one.nanos) > (other.seconds, other.nanos)


def _now(leader: Leader) -> Timestamp:
    return _time(leader.own.clock.wall())


def _time(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
