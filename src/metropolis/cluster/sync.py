# SPDX-License-Identifier: Apache-2.0
"""The leader's background work: roles follow the members of the consensus."""

import asyncio
from collections.abc import Sequence
from typing import Final

from metropolis.base.errors import (
    DataLossError,
    FailedPreconditionError,
    MetropolisError,
    chain,
)
from metropolis.cluster.leader import Leader
from metropolis.cluster.planner.membership import (
    AddRole,
    DropRoles,
    NodeView,
    Refresh,
    RemoveMember,
    plan,
)
from metropolis.cluster.planner.roles import Roles, find_member
from metropolis.cluster.state.fenced import Change, retry_conflicts
from metropolis.cluster.state.records import NodeRecord
from metropolis.consensus.store import Member
from metropolis.rpc.status import NotLeaderError

INTERVAL_S: Final = 5.0


async def keep_synchronized(leader: Leader) -> None:
    """Make one pass every five seconds, for as long as this node leads."""
    while True:
        try:
            await synchronize(leader)
        except NotLeaderError:
            pass  # the tenure is about to end
        except MetropolisError as error:
            leader.log.warning("Synchronizing roles and consensus failed: %s", chain(error))
        await asyncio.sleep(INTERVAL_S)


async def synchronize(leader: Leader) -> str | None:
    """Make at most one change; return the sentence that says which."""
    async with leader.membership_lock:
        members = await leader.members.all()
        nodes = (await leader.confirmed()).all()
        change = plan(
            leader_id=leader.own.node_id,
            nodes=[await _view(leader, record, members) for record in nodes],
            members=members,
        )
        if change is None:
            return None
        leader.log.info("%s", change.sentence)
        match change:
            case RemoveMember():
                await leader.members.remove(change.member_id)
                await leader.store.write(Change(sentence=change.sentence))  # for the audit log
            case AddRole() | Refresh():
                await retry_conflicts(lambda: _tell(leader, change, members))
            case DropRoles():
                await retry_conflicts(lambda: _drop(leader, change))
        return change.sentence


async def _view(leader: Leader, record: NodeRecord, members: Sequence[Member]) -> NodeView:
    is_current = True
    if record.roles.consensus_member and find_member(members, record.node_id) is not None:
        told = record.message.roles.consensus_member
        try:
            is_current = told == await leader.members.invitation(record, members)
        except (DataLossError, FailedPreconditionError) as error:
            # Damage to one node's certificate must not keep the others from being served.
            leader.log.warning("Node %s cannot be a member: %s", record.node_id, chain(error))
    return NodeView(node_id=record.node_id, roles=record.roles, is_current=is_current)


async def _tell(leader: Leader, change: AddRole | Refresh, members: Sequence[Member]) -> None:
    record = await leader.load(change.node_id)
    held = record.roles
    roles = Roles(
        consensus_member=True,
        kubernetes_controller=held.kubernetes_controller,
        kubernetes_worker=held.kubernetes_worker,
    )
    invitation = await leader.members.invitation(record, members)
    said = Change(sentence=change.sentence)
    await leader.save(record.with_roles(roles, invitation), said)


async def _drop(leader: Leader, change: DropRoles) -> None:
    record = await leader.load(change.node_id)
    roles = Roles(kubernetes_worker=record.roles.kubernetes_worker)
    revocation = await leader.members.revocation(change.node_id)
    said = Change(sentence=change.sentence)
    await leader.save(record.with_roles(roles, None), said + revocation)
