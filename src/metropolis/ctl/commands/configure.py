# SPDX-License-Identifier: Apache-2.0
"""`metroctl cluster configure get` and `set`."""

from collections.abc import Sequence

import click

from metropolis.ctl import configuration, nodes
from metropolis.ctl.command_line import command
from metropolis.ctl.completions import complete_fields
from metropolis.ctl.connection import Cluster
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import emit, quoted, say
from metropolis.ctl.session import run


@command("get")
@click.argument("field", shell_complete=complete_fields)
@click.pass_context
def configure_get(ctx: click.Context, field: str) -> None:
    """Print a field of the cluster's configuration, one value per line.

    Fields: kubernetes.node_labels_to_synchronize, tpm_mode, storage_security_policy,
    cluster_domain.
    """
    settings = settings_of(ctx)
    chosen = configuration.find(field)

    async def act(cluster: Cluster) -> Sequence[str]:
        info = await nodes.cluster_info(cluster.channel, timeout_s=cluster.timeout_s)
        return chosen.read(info.cluster_configuration)

    values = run(settings, act)
    if not any(values):
        say(f"{field} is empty.")
    emit(settings, data=values, text="".join(f"{value}\n" for value in values))


@command("set")
@click.argument("field", shell_complete=complete_fields)
@click.argument("values", nargs=-1)
@click.pass_context
def configure_set(ctx: click.Context, field: str, values: Sequence[str]) -> None:
    """Change a field of the cluster's configuration.

    A field that takes a list takes any number of VALUES; none clears it. What somebody else
    changes meanwhile is not overwritten.
    """
    settings = settings_of(ctx)
    chosen = configuration.find(field)

    async def act(cluster: Cluster) -> Sequence[str]:
        changed = await configuration.change(
            cluster.channel, chosen, values, timeout_s=cluster.timeout_s
        )
        return chosen.read(changed)

    result = run(settings, act)
    say(f"New value: {quoted(result)}")
