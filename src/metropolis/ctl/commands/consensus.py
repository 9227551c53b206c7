# SPDX-License-Identifier: Apache-2.0
"""`metroctl consensus status`."""

from collections.abc import Sequence

import click

from metropolis.api.introspection_pb2 import ConsensusMemberHealth
from metropolis.ctl.command_line import command
from metropolis.ctl.connection import Cluster
from metropolis.ctl.documents import document_of
from metropolis.ctl.members import ask_members, summary
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

    async def ask(cluster: Cluster) -> Sequence[ConsensusMemberHealth]:
        found = await list_nodes(cluster.channel, timeout_s=cluster.timeout_s)
        return await ask_members(cluster, found)

    members = run(settings, ask)
    rows = [_row(member) for member in members]
    emit(
        settings,
        data=lambda: [document_of(member) for member in members],
        text=lambda: render(_HEADERS, rows, paint=painter(settings)),
    )
    say(summary(members))


def _row(member: ConsensusMemberHealth) -> Sequence[str]:
    return (
        member.id,
        "yes" if member.voter else "learner" if member.learner else "no",
        "yes" if member.is_leader else "",
        "yes" if member.reachable else "UNREACHABLE",
        str(member.raft_index or "") if member.reachable else "",
        member.error,
    )
