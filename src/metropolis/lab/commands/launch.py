# SPDX-License-Identifier: Apache-2.0
"""`metropolis launch`: from nothing, or from where it was interrupted, to HEALTHY nodes."""

import sys
from pathlib import Path

import click

from metropolis.ctl.contexts import default_root
from metropolis.host.linux.capabilities import check_namespaces, check_owner
from metropolis.lab.cluster import LabCluster
from metropolis.lab.commands.options import name_option, open_cluster, run
from metropolis.lab.commands.report import print_cluster
from metropolis.lab.launch import LAUNCH_TIMEOUT_S, Launch
from metropolis.lab.model import QEMU_DRIVER, check_driver, check_node_count
from metropolis.lab.progress import Progress

DEFAULT_COUNT = 3
DEFAULT_DRIVER = QEMU_DRIVER


@click.command("launch")
@click.option("--nodes", "count", type=int, help="How many nodes, 1 to 9.  [default: 3]")
@name_option
@click.option(
    "--driver",
    envvar="DRIVER",
    help="What a machine is made of: qemu (virtual) or namespace (processes).  [default: qemu]",
)
@click.option(
    "--image",
    type=click.Path(path_type=Path, file_okay=False),
    help="A finished system image to found a virtual cluster with.  [default: built now]",
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
def launch(
    count: int | None, name: str, driver: str | None, image: Path | None, timeout_s: float
) -> None:
    """Start a cluster on this computer, take ownership of it, and wait until it is HEALTHY.

    It can be interrupted anywhere; running it again goes on. A cluster that runs is only shown.
    Of 1 or 2 nodes one is a consensus member, of 3 to 9 three are; members are Kubernetes
    controllers too, the others Kubernetes workers.
    """
    cluster = open_cluster(name)
    if driver is None:
        driver = cluster.rack.driver if cluster.directory.exists else DEFAULT_DRIVER
    check_driver(driver)
    if count is None:
        count = cluster.rack.count if cluster.directory.exists else DEFAULT_COUNT
    check_node_count(count)
    check_owner(cluster.directory.path)
    with Progress(sys.stderr, title="launch") as progress, cluster.exclusively():
        rack = cluster.create(count=count, driver=driver)
        was_running = cluster.is_running and rack.is_launched
        if was_running:
            progress.say(f"cluster {name!r} is running already")
        else:
            check_namespaces()
            if driver == QEMU_DRIVER:
                _prepare_computer(cluster, image, progress)
            progress.say(f"{'resuming' if rack.is_launched else 'starting'} cluster {name!r}")
        work = Launch(
            cluster=cluster, contexts_root=default_root(), progress=progress, timeout_s=timeout_s
        )
        found = run(work.run())
        if not was_running:
            progress.say(f"cluster {name!r} is up; the proxy is at {cluster.rack.proxy}")
    print_cluster(found, cluster.rack)


def _prepare_computer(cluster: LabCluster, image: Path | None, progress: Progress) -> None:
    """Look whether virtual machines can run here, and give a new cluster its image."""
    from metropolis.lab.qemu.image import found_image  # noqa: PLC0415  # only who needs it
    from metropolis.lab.qemu.requirements import check_requirements  # noqa: PLC0415  # only the driver qemu needs it

    check_requirements(machines=cluster.rack.count)
    found_image(cluster.directory, image=image, say=lambda step: progress.say(f"image: {step}"))
