# SPDX-License-Identifier: Apache-2.0
"""`metroctl consensus status`."""

from collections.abc import Sequence

import click

from metropolis.api import curator_pb2, introspection_pb2
from metropolis.api.introspection_pb2 import ConsensusMemberHealth
from metropolis.api.management_pb2 import Node
from metropolis.api.rpc_curator import Curator
from metropolis.api.rpc_introspection import Introspection
from metropolis.base.errors import UnimplementedError
from metropolis.ctl.command_line import command
from metropolis.ctl.connection import Cluster
from metropolis.ctl.documents import document_of
from metropolis.ctl.nodes import list_nodes
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import emit, painter, say
from metropolis.ctl.session import run
from metropolis.ctl.text_table import render

_HEADERS = ("NODE ID", "VOTES", "LEADER", "REACHABLE", "RAFT INDEX", "ERROR")


@command("status")
@click.pass_context
def consensus_status(ctx: click.Context) -> None:
    """Show members and votes.

    Changes need the votes of more than half of the voting members.
    """
    settings = settings_of(ctx)

    members = run(settings, ask)
    rows = [_row(member) for member in members]
    emit(
        settings,
        data=lambda: [document_of(member) for member in members],
        text=lambda: render(_HEADERS, rows, paint=painter(settings)),
    )
    say(summary(members))


async def ask(cluster: Cluster) -> Sequence[ConsensusMemberHealth]:
    """Return what the members say of themselves; from a cluster that cannot ask them, less."""
    try:
        response = await cluster.channel.call(
            Introspection.GET_CONSENSUS_HEALTH,
            introspection_pb2.GetConsensusHealthRequest(),
            timeout_s=cluster.timeout_s,
        )
    except UnimplementedError:
        return await _ask_for_votes(cluster)
    return response.members


async def _ask_for_votes(cluster: Cluster) -> Sequence[ConsensusMemberHealth]:
    """Return who votes; whether a member can be reached is told by its node's heartbeats."""
    status = await cluster.channel.call(
        Curator.GET_CONSENSUS_STATUS,
        curator_pb2.GetConsensusStatusRequest(),
        timeout_s=cluster.timeout_s,
    )
    found = await list_nodes(cluster.channel, timeout_s=cluster.timeout_s)
    health = {node.id: node for node in found}
    kind = curator_pb2.GetConsensusStatusResponse.EtcdMember
    return [
        ConsensusMemberHealth(
            id=member.id,
            voter=member.status == kind.STATUS_FULL,
            learner=member.status == kind.STATUS_LEARNER,
            reachable=member.id in health and health[member.id].health == Node.HEALTH_HEALTHY,
            error="" if member.id in health else "there is no such node",
        )
        for member in sorted(status.etcd_member, key=lambda each: each.id)
    ]


def summary(members: Sequence[ConsensusMemberHealth]) -> str:
    """Say what the members can stand. Pure."""
    voters = [member for member in members if member.voter]
    alive = sum(member.reachable for member in voters)
    needed = len(voters) // 2 + 1
    if alive < needed:
        return (
            f"Only {alive} of {len(voters)} voting members can be reached and {needed} are needed: "
            "the cluster cannot change anything until more are back."
        )
    spare = alive - needed
    return (
        f"{alive} of {len(voters)} voting members can be reached; "
        f"{spare or 'none'} more may fail before changes stop."
    )


def _row(member: ConsensusMemberHealth) -> Sequence[str]:
    return (
        member.id,
        "yes" if member.voter else "learner" if member.learner else "no",
        "yes" if member.is_leader else "",
        "yes" if member.reachable else "UNREACHABLE",
        str(member.raft_index or "") if member.reachable else "",
        member.error,
    )
