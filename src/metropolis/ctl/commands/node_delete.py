# SPDX-License-Identifier: Apache-2.0
"""`metroctl node delete`."""

import click

from metropolis.api.management_pb2 import Node
from metropolis.ctl import nodes
from metropolis.ctl.command_line import command
from metropolis.ctl.completions import complete_nodes
from metropolis.ctl.connection import Cluster
from metropolis.ctl.consent import confirm
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import say
from metropolis.ctl.session import run


@command("delete")
@click.argument("node_id", shell_complete=complete_nodes)
@click.option("--bypass-has-roles", is_flag=True, help="Even if the node holds roles.")
@click.option(
    "--bypass-not-decommissioned",
    is_flag=True,
    help="Even if the node was not taken out of service before.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def node_delete(
    ctx: click.Context,
    node_id: str,
    *,
    bypass_has_roles: bool,
    bypass_not_decommissioned: bool,
    yes: bool,
) -> None:
    """Forget a node.

    The machine can come back only by being wiped and registered as a new node.
    """
    settings = settings_of(ctx)

    async def find(cluster: Cluster) -> Node:
        return await nodes.find_node(cluster.channel, node_id, timeout_s=cluster.timeout_s)

    async def delete(cluster: Cluster) -> None:
        await nodes.delete_node(
            cluster.channel,
            node.id,
            bypass_has_roles=bypass_has_roles,
            bypass_not_decommissioned=bypass_not_decommissioned,
            timeout_s=cluster.timeout_s,
        )

    node = run(settings, find)
    if not yes:
        confirm(settings, node, verb="Delete", done="deleted")
    say(f"deleting node: {node.id} ({node.status.external_address or 'unknown'})")
    run(settings, delete)
    say(f"Deleted node {node.id}.")
