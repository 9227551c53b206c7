# SPDX-License-Identifier: Apache-2.0
"""`metroctl node metrics`."""

import click

from metropolis.ctl import node_metrics as figures
from metropolis.ctl import nodes
from metropolis.ctl.command_line import command
from metropolis.ctl.completions import complete_exporters, complete_nodes
from metropolis.ctl.connection import Cluster
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import opened
from metropolis.ctl.session import run


@command("metrics")
@click.argument("node_id", shell_complete=complete_nodes)
@click.argument("exporter", default="core", shell_complete=complete_exporters)
@click.pass_context
def node_metrics(ctx: click.Context, node_id: str, exporter: str) -> None:
    """Print what a node measures: core (its own program), node (its kernel), etcd.

    The figures are those that Prometheus reads, in its text format.
    """
    settings = settings_of(ctx)
    name = figures.parse_exporter(exporter)

    async def act(cluster: Cluster) -> bytes:
        node = await nodes.find_node(cluster.channel, node_id, timeout_s=cluster.timeout_s)
        return await figures.scrape(cluster, node, name)

    body = run(settings, act)
    with opened(settings) as out:
        out.write(body.decode("utf-8", "replace"))
