# SPDX-License-Identifier: Apache-2.0
"""`metropolis stop` and `metropolis start`."""

import sys

import click

from metropolis.base.errors import FailedPreconditionError
from metropolis.ctl.contexts import default_root
from metropolis.host.linux.capabilities import check_owner
from metropolis.lab.cluster import LabCluster
from metropolis.lab.commands.options import existing_cluster, flag, name_option, run
from metropolis.lab.commands.report import print_cluster
from metropolis.lab.commands.status import collect, print_machines
from metropolis.lab.launch import LAUNCH_TIMEOUT_S, Launch
from metropolis.lab.progress import Progress
from metropolis.lab.rack_context import rack_context


@click.command("stop")
@name_option
def stop(name: str) -> None:
    """Put every node away and end all processes of the cluster; its data is kept.

    Processes are shut down in order. Virtual machines are frozen, and go on where they were at the
    next start: an encrypted cluster whose nodes are all off cannot open its disks yet.
    """
    cluster = existing_cluster(name)
    check_owner(cluster.directory.path)
    with Progress(sys.stderr, title="stop") as progress, cluster.exclusively():
        progress.awaiting(f"the nodes of {name!r} to shut down")
        was_running = run(cluster.stop())
        text = "stopped" if was_running else "was not running"
        progress.say(f"cluster {name!r} {text}; start it again with `metropolis start{flag(name)}`")


@click.command("start")
@name_option
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=LAUNCH_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the nodes.",
)
def start(name: str, timeout_s: float) -> None:
    """Switch the nodes of a stopped cluster on and wait until they are HEALTHY.

    Machines that `metropolis rack` made, and that were on, go on; nobody waits for them.
    """
    cluster = existing_cluster(name)
    check_owner(cluster.directory.path)
    with Progress(sys.stderr, title="start") as progress, cluster.exclusively():
        if cluster.rack.is_blank:
            _start_rack(cluster, progress)
            return
        if not cluster.rack.is_launched:
            raise FailedPreconditionError(
                f"the launch of cluster {name!r} was interrupted",
                remedy=f"Run `metropolis launch --name {name}` to go on.",
            )
        if cluster.is_running:
            progress.say(f"cluster {name!r} is running already")
        work = Launch(
            cluster=cluster, contexts_root=default_root(), progress=progress, timeout_s=timeout_s
        )
        found = run(work.run())
    print_cluster(found, cluster.rack)


def _start_rack(cluster: LabCluster, progress: Progress) -> None:
    was_running = cluster.is_running
    rack = cluster.start()
    rack_context(default_root(), rack)
    text = "is running already" if was_running else "is on; machines that ran go on"
    progress.say(f"cluster {rack.name!r} {text}")
    print_machines(run(collect(cluster)))
