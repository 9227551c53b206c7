# SPDX-License-Identifier: Apache-2.0
"""`metroctl consensus status`."""

from collections.abc import Sequence

import click

from metropolis.api import introspection_pb2
from metropolis.api.introspection_pb2 import ConsensusMemberHealth
from metropolis.api.rpc_introspection import Introspection
from metropolis.ctl.command_line import command
from metropolis.ctl.connection import Cluster
from metropolis.ctl.documents import document_of
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

    async def act(cluster: Cluster) -> Sequence[ConsensusMemberHealth]:
        response = await cluster.channel.call(
            Introspection.GET_CONSENSUS_HEALTH,
            introspection_pb2.GetConsensusHealthRequest(),
            timeout_s=cluster.timeout_s,
        )
        return response.members

    members = run(settings, act)
    rows = [_row(member) for member in members]
    emit(
        settings,
        data=lambda: [document_of(member) for member in members],
        text=lambda: render(_HEADERS, rows, paint=painter(settings)),
    )
    say(summary(members))


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
        str(member.raft_index) if member.reachable else "",
        member.error,
    )
