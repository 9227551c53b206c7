# SPDX-License-Identifier: Apache-2.0
"""`metroctl explain`."""

import click

from metropolis.ctl import explanation, nodes
from metropolis.ctl.command_line import command
from metropolis.ctl.completions import complete_nodes
from metropolis.ctl.connection import Cluster
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import emit
from metropolis.ctl.session import run


@command("explain")
@click.argument("node_id", shell_complete=complete_nodes)
@click.pass_context
def explain(ctx: click.Context, node_id: str) -> None:
    """Say why a node is not ready, and what to do.

    The leader tells what it knows of life cycle and roles, the node itself which of its parts
    fail; what is to blame most comes first.
    """
    settings = settings_of(ctx)

    async def act(cluster: Cluster) -> explanation.Explanation:
        node = await nodes.find_node(cluster.channel, node_id, timeout_s=cluster.timeout_s)
        return await explanation.explain(cluster, node)

    found = run(settings, act)
    emit(
        settings,
        data=lambda: explanation.document(found),
        text=lambda: explanation.text_of(found),
    )
