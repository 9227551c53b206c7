# SPDX-License-Identifier: Apache-2.0
"""`metroctl consensus status`."""

import asyncio
from collections.abc import Sequence
from typing import Final

import click

from metropolis.api import curator_pb2, introspection_pb2
from metropolis.api.introspection_pb2 import ConsensusMemberHealth
from metropolis.api.management_pb2 import Node
from metropolis.api.rpc_curator import Curator
from metropolis.api.rpc_introspection import Introspection
from metropolis.base.errors import MetropolisError, chain
from metropolis.ctl.command_line import command
from metropolis.ctl.connection import Cluster
from metropolis.ctl.documents import document_of
from metropolis.ctl.nodes import list_nodes
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import emit, painter, say
from metropolis.ctl.session import run
from metropolis.ctl.text_table import render

MEMBER_TIMEOUT_S: Final = 5.0  # a member that is that slow is not well
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
    """Ask the leader who is a member, and then each member how it is."""
    status = await cluster.channel.call(
        Curator.GET_CONSENSUS_STATUS,
        curator_pb2.GetConsensusStatusRequest(),
        timeout_s=cluster.timeout_s,
    )
    found = await list_nodes(cluster.channel, timeout_s=cluster.timeout_s)
    nodes = {node.id: node for node in found}
    listed = sorted(status.etcd_member, key=lambda each: each.id)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(_ask_member(cluster, nodes.get(each.id))) for each in listed]
    kind = curator_pb2.GetConsensusStatusResponse.EtcdMember
    members: list[ConsensusMemberHealth] = []
    for each, answer in zip(listed, asked, strict=True):
        member = answer.result()
        member.id = each.id
        member.voter = each.status == kind.STATUS_FULL
        member.learner = each.status == kind.STATUS_LEARNER
        members.append(member)
    return members


async def _ask_member(cluster: Cluster, node: Node | None) -> ConsensusMemberHealth:
    """Return what a member says of itself, or why it does not."""
    if node is None:
        return ConsensusMemberHealth(error="there is no such node")
    try:
        async with cluster.dial_node(node) as channel:
            response = await channel.call(
                Introspection.GET_CONSENSUS_HEALTH,
                introspection_pb2.GetConsensusHealthRequest(),
                timeout_s=min(cluster.timeout_s, MEMBER_TIMEOUT_S),
            )
    except MetropolisError as error:
        return ConsensusMemberHealth(error=chain(error))
    if not response.members:
        return ConsensusMemberHealth(error="its member does not vote now")
    return response.members[0]


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
