# SPDX-License-Identifier: Apache-2.0
"""Users.Grant, Users.Revoke and groups: who may do what."""

from collections.abc import Callable
from typing import Final

from metropolis.api.accounts_pb2 import StoredGroup, StoredUser
from metropolis.api.users_pb2 import (
    CreateGroupRequest,
    CreateGroupResponse,
    DeleteGroupRequest,
    DeleteGroupResponse,
    GrantRequest,
    GrantResponse,
    Grants,
    RevokeRequest,
    RevokeResponse,
)
from metropolis.base.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from metropolis.cluster.leader import Leader
from metropolis.cluster.planner.authorization import (
    PERMISSIONS,
    Granted,
    check_grants,
    check_name,
    check_reach,
)
from metropolis.cluster.services.accounts import (
    change,
    damaged,
    find_user,
    held_by_record,
    spoken,
)
from metropolis.cluster.services.users import rewritten
from metropolis.cluster.state import accounts
from metropolis.cluster.state.accounts import Accounts, GroupRecord, granted_of, grants_of
from metropolis.cluster.state.fenced import Change, is_absent, is_unchanged
from metropolis.consensus.store import Delete, Put
from metropolis.rpc.peer import Peer

GROUPS_MAX: Final = 500

_Combine = Callable[[Granted, Granted], Granted]


async def grant(leader: Leader, request: GrantRequest, peer: Peer) -> GrantResponse:
    """Give to a user or group; what it holds already is fine."""
    held = await _combine(leader, request, peer, lambda old, given: old | given)
    return GrantResponse(grants=held)


async def revoke(leader: Leader, request: RevokeRequest, peer: Peer) -> RevokeResponse:
    """Take from a user or group; what it does not hold is fine."""
    held = await _combine(leader, request, peer, lambda old, taken: old - taken)
    return RevokeResponse(grants=held)


async def create_group(
    leader: Leader, request: CreateGroupRequest, peer: Peer
) -> CreateGroupResponse:
    """Make a group without members."""
    name = check_name(request.name, "group")
    granted = granted_of(request.grants)

    def decide(found: Accounts, caller: frozenset[str] | None) -> Change:
        check_grants(granted, found.groups, is_group=True)
        check_reach(caller, found.permissions_of(granted), f"group {name!r}")
        if name in found.groups:
            raise AlreadyExistsError(
                f"group {name!r} exists already",
                remedy=f"Change what it may do with `metroctl user group grant {name}`.",
            )
        if len(found.groups) >= GROUPS_MAX:
            raise ResourceExhaustedError(
                f"the cluster has {GROUPS_MAX} groups already", remedy="Delete some."
            )
        key = accounts.group_key(name)
        message = StoredGroup(name=name, grants=grants_of(granted))
        return Change(
            compares=(is_absent(key),),
            operations=(Put(key, message.SerializeToString()),),
            sentence=f"group created; holds {spoken(message.grants)}",
        )

    await change(leader, peer, decide)
    leader.log.info("Group %s: created", name)
    return CreateGroupResponse()


async def delete_group(
    leader: Leader, request: DeleteGroupRequest, peer: Peer
) -> DeleteGroupResponse:
    """Forget a group that has no members."""

    def decide(found: Accounts, caller: frozenset[str] | None) -> Change:
        group = _find_group(found, request.name)
        check_reach(caller, _held_by_group(found, group), f"group {group.name!r}")
        members = found.members_of(group.name)
        if members:
            raise FailedPreconditionError(
                f"group {group.name!r} has {len(members)} members, {members[0]!r} among them",
                remedy=f"Run `metroctl user revoke {members[0]} --group {group.name}` first.",
            )
        key = accounts.group_key(group.name)
        return Change(
            compares=(is_unchanged(key, group.mod_revision),),
            operations=(Delete(key),),
            sentence="group deleted",
        )

    await change(leader, peer, decide)
    leader.log.info("Group %s: deleted", request.name)
    return DeleteGroupResponse()


async def _combine(
    leader: Leader, request: GrantRequest | RevokeRequest, peer: Peer, combine: _Combine
) -> Grants:
    operand = granted_of(request.grants)
    is_grant = isinstance(request, GrantRequest)
    result = Grants()

    def decide(found: Accounts, caller: frozenset[str] | None) -> Change:
        match request.WhichOneof("subject"):
            case "user":
                if is_grant:
                    check_grants(operand, found.groups, is_group=False)
                change_, after = _combined_user(found, caller, request.user, operand, combine)
            case "group":
                if is_grant:
                    check_grants(operand, found.groups, is_group=True)
                change_, after = _combined_group(found, caller, request.group, operand, combine)
            case _:
                raise InvalidArgumentError(
                    "the request names no subject", remedy="Set either user or group."
                )
        result.CopyFrom(grants_of(after))
        return change_

    await change(leader, peer, decide)
    subject = f"Group {request.group}" if request.HasField("group") else f"User {request.user}"
    leader.log.info("%s: now holds %s", subject, spoken(result))
    return result


def _combined_user(
    found: Accounts,
    caller: frozenset[str] | None,
    name: str,
    operand: Granted,
    combine: _Combine,
) -> tuple[Change, Granted]:
    record = find_user(found, name)
    if record.message is None:
        raise damaged("user", name)
    after = combine(record.granted, operand)
    check_reach(caller, held_by_record(found, record), f"user {name!r}")
    check_reach(caller, found.permissions_of(after), f"user {name!r} then")
    if after == record.granted:
        return Change(), after
    if len(after.groups) > len(record.granted.groups):
        check_grants(after, found.groups, is_group=False)  # how many
    message = StoredUser()
    message.CopyFrom(record.message)
    message.grants.CopyFrom(grants_of(after))
    return rewritten(record, message, f"now holds {spoken(message.grants)}"), after


def _combined_group(
    found: Accounts,
    caller: frozenset[str] | None,
    name: str,
    operand: Granted,
    combine: _Combine,
) -> tuple[Change, Granted]:
    group = _find_group(found, name)
    if group.message is None:
        raise damaged("group", name)
    after = combine(group.granted, operand)
    check_reach(caller, found.permissions_of(group.granted), f"group {name!r}")
    check_reach(caller, found.permissions_of(after), f"group {name!r} then")
    if after == group.granted:
        return Change(), after
    message = StoredGroup()
    message.CopyFrom(group.message)
    message.grants.CopyFrom(grants_of(after))
    key = accounts.group_key(name)
    return (
        Change(
            compares=(is_unchanged(key, group.mod_revision),),
            operations=(Put(key, message.SerializeToString()),),
            sentence=f"group now holds {spoken(message.grants)}",
            object=name,
        ),
        after,
    )


def _find_group(found: Accounts, name: str) -> GroupRecord:
    group = found.groups.get(name)
    if group is None:
        raise NotFoundError(
            f"no such group: {name[:64]!r}", remedy="List them with `metroctl user group list`."
        )
    return group


def _held_by_group(found: Accounts, group: GroupRecord) -> frozenset[str]:
    if group.message is None:
        return frozenset(PERMISSIONS)
    return found.permissions_of(group.granted)
