# SPDX-License-Identifier: Apache-2.0
"""`metroctl node decommission`."""

import click

from metropolis.api.decommission_pb2 import DecommissionProgress
from metropolis.api.management_pb2 import Node
from metropolis.ctl import decommission, nodes
from metropolis.ctl.command_line import command
from metropolis.ctl.completions import complete_nodes
from metropolis.ctl.connection import Cluster
from metropolis.ctl.consent import confirm
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import say
from metropolis.ctl.session import answered, run


@command("decommission")
@click.argument("node_id", shell_complete=complete_nodes)
@click.option(
    "--force",
    is_flag=True,
    help="Go on without what cannot be reached: the node itself, or members that clean up.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def node_decommission(ctx: click.Context, node_id: str, *, force: bool, yes: bool) -> None:
    """Take a node out of service for good.

    Its roles are taken away, its machine is wiped, and its keys are deleted. It goes on when this
    command is interrupted; run it again to look on.
    """
    settings = settings_of(ctx)

    async def find(cluster: Cluster) -> Node:
        return await nodes.find_node(cluster.channel, node_id, timeout_s=cluster.timeout_s)

    async def act(cluster: Cluster) -> None:
        def tell(progress: DecommissionProgress) -> None:
            answered()
            say(decommission.line(progress))

        await decommission.follow(cluster.channel, node.id, force=force, tell=tell)

    node = run(settings, find)
    if not yes:
        confirm(settings, node, verb="Wipe", done="decommissioned")
    say(f"decommissioning node: {node.id} ({node.status.external_address or 'unknown'})")
    run(settings, act)
    say(f"Decommissioned node {node.id}. Run `metroctl node delete {node.id}` to forget it.")
