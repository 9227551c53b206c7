# SPDX-License-Identifier: Apache-2.0
"""`metropolis rack`: virtual machines without a system, to be installed from media."""

import sys

import click

from metropolis.ctl import contexts
from metropolis.ctl.contexts import default_root
from metropolis.host.linux.capabilities import check_namespaces, check_owner
from metropolis.lab.cluster import LabCluster
from metropolis.lab.commands.options import flag, name_option, open_cluster, run, spelled
from metropolis.lab.commands.status import collect, print_machines
from metropolis.lab.model import QEMU_DRIVER, Rack, check_node_count
from metropolis.lab.progress import Progress
from metropolis.lab.rack_context import check_free, rack_context

DEFAULT_COUNT = 3


@click.command("rack")
@click.option("--nodes", "count", type=int, help="How many machines, 1 to 9.  [default: 3]")
@name_option
def rack(count: int | None, name: str) -> None:
    """Set up blank virtual machines, all off: what `metroctl install genusb` is for.

    Their disks are empty and their firmware is in Setup Mode. They are switched on with `metropolis
    power NODE on --medium FILE`. A context of that name, which becomes the current one, leads
    `metroctl` to them. Run again, it only starts what was stopped.
    """
    cluster = open_cluster(name)
    if count is None:
        count = cluster.rack.count if cluster.directory.exists else DEFAULT_COUNT
    check_node_count(count)
    check_owner(cluster.directory.path)
    root = default_root()
    with Progress(sys.stderr, title="rack") as progress, cluster.exclusively():
        if not cluster.directory.exists:
            check_free(root, name)
        made = cluster.create(count=count, driver=QEMU_DRIVER, is_blank=True)
        if not cluster.is_running:
            check_namespaces()
            _make_machines(cluster, made, progress)
        made = cluster.start()
        rack_context(root, made)
        contexts.select(root, name)
        progress.say(f"metroctl reaches {name!r} as its current context, by {made.proxy}")
    print_machines(run(collect(cluster)))
    lines = [
        "",
        "Try next:",
        f"  {spelled('metroctl')} install genusb first.img --bootstrap --bundle=bundle.zip",
        f"  {spelled('metropolis')} power 0 on --medium first.img{flag(name)}",
        f"  {spelled('metropolis')} console 0 --follow{flag(name)}",
    ]
    print("\n".join(lines), file=sys.stderr)


def _make_machines(cluster: LabCluster, made: Rack, progress: Progress) -> None:
    """Look whether virtual machines can run here, and make those that are missing."""
    from metropolis.lab.qemu.blank import make_blank_machines  # noqa: PLC0415  # only who needs it
    from metropolis.lab.qemu.image import found_firmware  # noqa: PLC0415  # only who needs it
    from metropolis.lab.qemu.requirements import check_requirements  # noqa: PLC0415  # only who needs it

    check_requirements(machines=made.count)
    found_firmware(cluster.directory, say=progress.say)
    run(make_blank_machines(made, cluster.directory))
