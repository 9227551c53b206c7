# SPDX-License-Identifier: Apache-2.0
"""`metroctl approve`, also spelled `metroctl node approve`."""

import click

from metropolis.base.errors import NotFoundError
from metropolis.ctl import nodes
from metropolis.ctl.command_line import command
from metropolis.ctl.completions import complete_new_nodes
from metropolis.ctl.connection import Cluster
from metropolis.ctl.documents import node_document
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import emit, say
from metropolis.ctl.session import run
from metropolis.ctl.suggestions import did_you_mean

NOBODY_WAITS = "There are no nodes pending approval at this time."


@command("approve")
@click.argument("node_id", required=False, shell_complete=complete_new_nodes)
@click.pass_context
def approve(ctx: click.Context, node_id: str | None) -> None:
    """Approve a node, or list those that wait for it.

    Without NODE_ID the ids of the nodes that wait are printed, one per line. Compare an id with
    what the machine's console shows: it begins with the machine's public key.
    """
    settings = settings_of(ctx)

    async def act(cluster: Cluster) -> None:
        timeout_s = cluster.timeout_s
        waiting = await nodes.list_new_nodes(cluster.channel, timeout_s=timeout_s)
        if node_id is None:
            if not waiting:
                say(NOBODY_WAITS)
            lines = "".join(f"{node.id}\n" for node in waiting)
            emit(settings, data=[node_document(node) for node in waiting], text=lines)
            return
        node = None
        try:
            node = nodes.pick(waiting, node_id)
        except NotFoundError:
            raise await _not_waiting(cluster, node_id, [each.id for each in waiting]) from None
        await nodes.approve_node(cluster.channel, node, timeout_s=timeout_s)
        say(f"Approved node {node.id}.")

    run(settings, act)


async def _not_waiting(cluster: Cluster, wanted: str, waiting: list[str]) -> NotFoundError:
    """Say whether the node is unknown or was approved already."""
    message = f"couldn't find a new node matching id {wanted[:64]}"
    everybody = await nodes.list_nodes(cluster.channel, timeout_s=cluster.timeout_s)
    try:
        node = nodes.pick(everybody, wanted)
    except NotFoundError:
        remedy = did_you_mean(wanted, waiting) or "Run `metroctl approve` to list those that wait."
        return NotFoundError(message, remedy=remedy)
    return NotFoundError(
        f"{message}: node {node.id} was approved already",
        remedy=f"Run `metroctl explain {node.id}` to see how it is.",
    )
