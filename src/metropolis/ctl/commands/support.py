# SPDX-License-Identifier: Apache-2.0
"""`metroctl support`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from metropolis import __version__
from metropolis.ctl.choice import context_of
from metropolis.ctl.command_line import command
from metropolis.ctl.completions import complete_nodes
from metropolis.ctl.connection import Cluster
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import say
from metropolis.ctl.session import answered, run
from metropolis.ctl.support.bundle import Bundle, write
from metropolis.ctl.support.gather import LOG_ENTRIES, Wanted, gather
from metropolis.ctl.user_credentials import shown_credentials
from metropolis.host.linux.clock import LinuxClock

_SHOWN_MAX: Final = 5


@command("support")
@click.option(
    "--node",
    "wanted_nodes",
    multiple=True,
    metavar="NODE",
    shell_complete=complete_nodes,
    help="Only this node; repeat it for more. Default: all.",
)
@click.option(
    "--backlog",
    type=click.IntRange(min=1),
    default=LOG_ENTRIES,
    metavar="N",
    help=f"The last N log entries of each node (default {LOG_ENTRIES}).",
)
@click.pass_context
def support(ctx: click.Context, wanted_nodes: Sequence[str], backlog: int) -> None:
    """Gather everything that helps to find out what is wrong, without secrets.

    Logs, states, versions and figures of the nodes, and what the cluster says of itself, in one
    file. What cannot be reached is listed in it. It is written to --output-file, or to
    metropolis-support-TIME.tar.gz in this directory, readable by you alone.
    """
    settings = settings_of(ctx)
    context = context_of(settings)
    made = LinuxClock().wall()
    name = f"metropolis-support-{made:%Y%m%d-%H%M%S}"
    path = settings.output_file or Path(f"{name}.tar.gz")
    bundle = Bundle(name=name, secrets=[shown_credentials(context).key.private_bytes_raw()])
    wanted = Wanted(nodes=wanted_nodes, log_entries=backlog)

    async def act(cluster: Cluster) -> None:
        answered()

        def tell(text: str) -> None:
            say(f"support: {text}")

        await gather(cluster, context, wanted, bundle=bundle, tell=tell)

    run(settings, act)
    manifest: dict[str, object] = {
        "metroctl": __version__,
        "nodes": list(wanted_nodes) or "all",
        "log_entries_per_node": backlog,
    }
    write(path, bundle.archive(made=made, manifest=manifest))
    for missing in bundle.missing[:_SHOWN_MAX]:
        say(f"Not had: {missing.path}: {missing.reason}")
    if len(bundle.missing) > _SHOWN_MAX:
        say(f"Not had: {len(bundle.missing) - _SHOWN_MAX} more; manifest.json lists them.")
    print(path)
