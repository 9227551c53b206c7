# SPDX-License-Identifier: Apache-2.0
"""`metroctl node list` and `metroctl node describe`."""

from collections.abc import Sequence

import click

from metropolis.api.management_pb2 import Node
from metropolis.ctl import nodes, tables
from metropolis.ctl.command_line import command
from metropolis.ctl.completions import complete_nodes
from metropolis.ctl.connection import Cluster
from metropolis.ctl.documents import node_document
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import emit, painter, say
from metropolis.ctl.session import run
from metropolis.ctl.settings import Settings

EVERY = "all"


@command("list")
@click.argument("node_ids", nargs=-1, shell_complete=complete_nodes)
@click.pass_context
def node_list(ctx: click.Context, node_ids: Sequence[str]) -> None:
    """List nodes.

    NODE_IDS, or unique beginnings of them, and --filter narrow the list; -o wide shows every
    column, --columns those that it names.
    """
    settings = settings_of(ctx)
    columns = tables.NODE_COLUMNS if settings.output == "wide" else tables.LIST_COLUMNS
    _show(settings, node_ids, columns)


@command("describe")
@click.argument("node_ids", nargs=-1, shell_complete=complete_nodes)
@click.pass_context
def node_describe(ctx: click.Context, node_ids: Sequence[str]) -> None:
    """Show all that is known of nodes.

    NODE_IDS, or unique beginnings of them, and --filter narrow the list; `all` stands for every
    node. --columns names the columns, such as 'node id,state'.
    """
    _show(settings_of(ctx), node_ids, tables.NODE_COLUMNS)


def _show(settings: Settings, node_ids: Sequence[str], columns: Sequence[str]) -> None:
    if settings.columns:
        columns = tables.check_columns(settings.columns)

    async def act(cluster: Cluster) -> list[Node]:
        return await nodes.list_nodes(
            cluster.channel, settings.filter_text, timeout_s=cluster.timeout_s
        )

    found = run(settings, act)
    if node_ids and node_ids[0] != EVERY:
        found = nodes.pick_all(found, node_ids)
    if not found:
        say("No node matches." if settings.filter_text else "There are no nodes.")
    emit(
        settings,
        data=lambda: [node_document(node) for node in found],
        text=lambda: tables.render_nodes(found, columns, paint=painter(settings)) if found else "",
    )
