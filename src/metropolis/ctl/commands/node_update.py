# SPDX-License-Identifier: Apache-2.0
"""`metroctl node update`."""

from collections.abc import Sequence

import click

from metropolis.ctl import node_update as updates
from metropolis.ctl.command_line import command
from metropolis.ctl.completions import complete_nodes
from metropolis.ctl.connection import Cluster
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import say
from metropolis.ctl.session import run


@command("update")
@click.argument("node_ids", nargs=-1, required=True, shell_complete=complete_nodes)
@click.option(
    "--image-ref",
    required=True,
    metavar="REF",
    help="System image, [http[s]://]HOST[:PORT]/REPOSITORY[:TAG]@DIGEST.",
)
@click.option(
    "--activation-mode", default="reboot", metavar="MODE", help="none|reboot|kexec (reboot)."
)
@click.option(
    "--max-unavailable",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="How many nodes are updated at the same time (1).",
)
@click.option("--exclude", multiple=True, metavar="NODE_ID", help="Leave this node out; repeat it.")
@click.pass_context
def node_update(
    ctx: click.Context,
    node_ids: Sequence[str],
    *,
    image_ref: str,
    activation_mode: str,
    max_unavailable: int,
    exclude: Sequence[str],
) -> None:
    """Update nodes; `all` stands for every node.

    A node counts as updated once it was rebooted and is healthy again.
    """
    request = updates.request_of(image_ref, activation_mode)

    async def act(cluster: Cluster) -> None:
        await updates.update(
            cluster,
            await updates.choose(cluster, node_ids, exclude),
            request,
            at_once=max_unavailable,
            say=say,
        )

    run(settings_of(ctx), act)
