# SPDX-License-Identifier: Apache-2.0
"""`metropolis launch`: from nothing, or from where it was interrupted, to HEALTHY nodes."""

import sys

import click

from metropolis.ctl.contexts import default_root
from metropolis.host.linux.capabilities import check_namespaces, check_owner
from metropolis.lab.commands.options import name_option, open_cluster, run
from metropolis.lab.commands.report import print_cluster
from metropolis.lab.launch import LAUNCH_TIMEOUT_S, Launch
from metropolis.lab.model import NAMESPACE_DRIVER, check_driver, check_node_count
from metropolis.lab.progress import Progress

DEFAULT_COUNT = 3


@click.command("launch")
@click.option("--nodes", "count", type=int, help="How many nodes, 1 to 9.  [default: 3]")
@name_option
@click.option(
    "--driver",
    envvar="DRIVER",
    default=NAMESPACE_DRIVER,
    show_default=True,
    help="What a machine is made of.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=LAUNCH_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the cluster.",
)
def launch(count: int | None, name: str, driver: str, timeout_s: float) -> None:
    """Start a cluster on this computer, take ownership of it, and wait until it is HEALTHY.

    It can be interrupted anywhere; running it again goes on. A cluster that runs is only shown.
    Of 1 or 2 nodes one is a consensus member, of 3 to 9 three are; members are Kubernetes
    controllers too, the others Kubernetes workers.
    """
    check_driver(driver)
    cluster = open_cluster(name)
    if count is None:
        count = cluster.rack.count if cluster.directory.exists else DEFAULT_COUNT
    check_node_count(count)
    check_owner(cluster.directory.path)
    with Progress(sys.stderr, title="launch") as progress, cluster.exclusively():
        rack = cluster.create(count=count)
        was_running = cluster.is_running and rack.is_launched
        if was_running:
            progress.say(f"cluster {name!r} is running already")
        else:
            check_namespaces()
            progress.say(f"{'resuming' if rack.is_launched else 'starting'} cluster {name!r}")
        work = Launch(
            cluster=cluster, contexts_root=default_root(), progress=progress, timeout_s=timeout_s
        )
        found = run(work.run())
        if not was_running:
            progress.say(f"cluster {name!r} is up; the proxy is at {cluster.rack.proxy}")
    print_cluster(found, cluster.rack)
