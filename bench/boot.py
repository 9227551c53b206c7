# SPDX-License-Identifier: Apache-2.0
"""Virtual machines on this computer: image, boot, launch, reboot. `make bench-boot`; 2 minutes.

Of every boot the firmware's and the kernel's share is shown, so that ours can be seen: nobody but
the firmware can make the firmware faster.
"""

import asyncio
import io
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvloop

from bench.metal import calibrate_ms, machine
from metropolis.api.management_pb2 import Node
from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.ctl import contexts, nodes
from metropolis.ctl.connection import Cluster, connect
from metropolis.ctl.node_metrics import scrape
from metropolis.host.linux.debian.checkout import checkout_fetcher, project_root
from metropolis.image.build import BuildRequest, build_image
from metropolis.image.keys import default_key_directory
from metropolis.lab.cluster import LabCluster
from metropolis.lab.console import ConsoleReader
from metropolis.lab.launch import Launch
from metropolis.lab.model import QEMU_DRIVER
from metropolis.lab.probe import is_port_open
from metropolis.lab.progress import Progress
from metropolis.lab.qemu.accelerator import choose_accelerator
from metropolis.lab.qemu.image import found_image
from metropolis.lab.state import ClusterDirectory

NAME: Final = "bench"
NODES: Final = 3
OUTPUT: Final = Path(__file__).resolve().parent.parent / "build" / "bench-boot.json"
LAUNCH_S: Final = 300.0
_POLL_S: Final = 0.02
_ASK_AGAIN_S: Final = 0.25  # of a node: its answers cost it work
_MIB: Final = 1 << 20
_STARTING: Final = re.compile(r"BdsDxe: starting")
_TIMELINE: Final = re.compile(r"boot: (.*?); ([0-9.]+) s in all")
_WRAPPED: Final = re.compile(r"\s*\n +\| ")  # a long line of the console goes on there
_PART: Final = re.compile(r"([a-z]+) ([0-9.]+)")
_RESIDENT: Final = re.compile(rb"^process_resident_memory_bytes (\S+)", re.MULTILINE)

Figure = tuple[float, str, float | None]  # value, unit, target


@dataclass(slots=True)
class Boot:
    """What a machine's console said of one boot; seconds since power-on."""

    firmware_s: float = 0.0
    timeline_s: float = 0.0  # when the line came
    parts_s: dict[str, float] = field(default_factory=dict[str, float])

    def figures(self, title: str) -> dict[str, Figure]:
        """The shares of a boot."""
        # The kernel's clock begins after the firmware has loaded the kernel: that belongs to it.
        ours = {
            name: seconds
            for name, seconds in self.parts_s.items()
            if name not in {"firmware", "kernel"}
        }
        kernel_s = self.timeline_s - self.firmware_s - sum(ours.values())
        parts = {"firmware": self.firmware_s, "loading and kernel": kernel_s, **ours}
        return {f"{title}: {name}": (seconds, "s", None) for name, seconds in parts.items()}


async def watch_boot(path: Path) -> Boot:
    """Follow a console from power-on, now, to the line that tells how the boot went."""
    reader, began_s, boot, text = ConsoleReader(path), time.monotonic(), Boot(), ""
    while time.monotonic() - began_s < LAUNCH_S:
        text += reader.read()
        if not boot.firmware_s and _STARTING.search(text):
            boot.firmware_s = time.monotonic() - began_s
        if found := _TIMELINE.search(_WRAPPED.sub(" ", text)):
            boot.timeline_s = time.monotonic() - began_s
            boot.parts_s = {name: float(value) for name, value in _PART.findall(found[1])}
            return boot
        await asyncio.sleep(_POLL_S)
    raise TimeoutError("the machine never said how its boot went")


class Site:
    """The cluster that is measured."""

    def __init__(self, path: Path) -> None:
        self.cluster = LabCluster(ClusterDirectory(path / NAME), dies_with_us=True)
        self.contexts_root = path / "config"

    async def switch_on(self, *, machines: int) -> float:
        """Make machines of a finished image and switch them on; return when, by `time`'s clock."""
        self.cluster.create(count=machines, driver=QEMU_DRIVER, proxy_tcp_port=0)
        found_image(self.cluster.directory, image=None, say=_say)
        await self.launch().prepare()
        self.cluster.start()
        return time.monotonic()

    def launch(self) -> Launch:
        return Launch(
            cluster=self.cluster,
            contexts_root=self.contexts_root,
            progress=Progress(io.StringIO(), title="bench"),
            timeout_s=LAUNCH_S,
        )

    async def api_ready(self, number: int) -> float:
        """Wait until a machine that is switched on now listens; return the seconds."""
        began_s, rack = time.monotonic(), self.cluster.rack
        address = rack.address(number)
        proxy = rack.proxy_tcp_port
        while not await is_port_open(proxy, address, CURATOR_TCP_PORT):  # noqa: ASYNC110  # a port, and a cluster, are asked
            await asyncio.sleep(_POLL_S)
        return time.monotonic() - began_s


def image_figures(cache: Path) -> dict[str, Figure]:
    """Build the image without any step remembered, and again with all of them."""
    root = project_root()
    with tempfile.TemporaryDirectory(prefix="metropolis-bench-image-") as scratch:
        request = BuildRequest(
            checkout=root,
            output=Path(scratch) / "image",
            cache=cache / "image-steps",
            keys=default_key_directory(os.environ),
            is_debug=False,
            fetcher=checkout_fetcher(os.environ, say=_say),
            say=_say,
        )
        began_s = time.monotonic()
        build_image(request)
        cold_s = time.monotonic() - began_s
        began_s = time.monotonic()
        build_image(request)
        warm_s = time.monotonic() - began_s
        size_bytes = sum(
            (request.output / name).stat().st_size for name in ("system.img", "kernel.efi")
        )
    return {
        "image, packages there, nothing else": (cold_s, "s", None),
        "image, nothing changed": (warm_s, "s", 15),
        "system and kernel image": (size_bytes / _MIB, "MiB", 100),
    }


async def first_boot_figures(site: Site) -> dict[str, Figure]:
    """Boot one machine, which founds a cluster, with the computer for itself."""
    await site.switch_on(machines=1)
    async with asyncio.TaskGroup() as tasks:
        boot = tasks.create_task(watch_boot(site.cluster.directory.console(0)))
        api = tasks.create_task(site.api_ready(0))
    return {
        **boot.result().figures("first boot"),
        "first boot: power-on to API": (api.result(), "s", 15),
    }


async def launch_figures(site: Site) -> dict[str, Figure]:
    """Launch three machines on a finished image, side by side."""
    began_s = time.monotonic()
    on_s = await site.switch_on(machines=NODES)
    assert len(await site.launch().run()) == NODES
    return {
        "three nodes HEALTHY from power-on": (time.monotonic() - on_s, "s", 45),
        "launch, warm image": (time.monotonic() - began_s, "s", 60),
    }


async def reboot_figures(site: Site) -> dict[str, Figure]:
    """Cut the power of one machine, and measure its way back."""
    number = NODES - 1
    await site.cluster.power(number, "kill")
    await site.cluster.power(number, "on")
    began_s, moment = time.monotonic(), time.time()
    async with asyncio.TaskGroup() as tasks:
        boot = tasks.create_task(watch_boot(site.cluster.directory.console(number)))
        api = tasks.create_task(site.api_ready(number))
    async with connect(contexts.load(site.contexts_root, NAME)) as connection:
        address = site.cluster.rack.address(number)
        while not await _is_back(connection, address, moment):  # noqa: ASYNC110  # a port, and a cluster, are asked
            await asyncio.sleep(_ASK_AGAIN_S)
        back_s = time.monotonic() - began_s
        resident = [await _resident_mib(connection, node) for node in await _list(connection)]
    return {
        **boot.result().figures("second boot"),
        "second boot: power-on to API": (api.result(), "s", 12),
        "power cut to HEALTHY again": (back_s, "s", 60),
        "core process, largest": (max(resident), "MiB", 80),
    }


async def _is_back(connection: Cluster, address: str, moment: float) -> bool:
    for node in await _list(connection):
        if node.status.external_address == address and node.health == Node.HEALTH_HEALTHY:
            age_s = node.time_since_heartbeat.ToTimedelta().total_seconds()
            return time.time() - age_s > moment
    return False


async def _list(connection: Cluster) -> Sequence[Node]:
    return await nodes.list_nodes(connection.channel)


async def _resident_mib(connection: Cluster, node: Node) -> float:
    found = _RESIDENT.search(await scrape(connection, node, "core"))
    assert found is not None
    return float(found[1]) / _MIB


def _say(line: str) -> None:
    print(f"bench: {line} …", file=sys.stderr, flush=True)


async def _measure_machines(path: Path) -> dict[str, Figure]:
    alone, site = Site(path / "alone"), Site(path)
    try:
        figures = await first_boot_figures(alone)
        await alone.cluster.destroy()
        figures |= await launch_figures(site)
        return figures | await reboot_figures(site)
    finally:
        await alone.cluster.destroy()
        await site.cluster.destroy()


def main() -> int:
    """Print a table; write build/bench-boot.json. Targets are those without KVM, on two cores."""
    with tempfile.TemporaryDirectory(prefix="metropolis-bench-") as path:
        figures = image_figures(Path(path))
        figures |= uvloop.run(_measure_machines(Path(path)))
    print(f"{'FIGURE':<44} {'VALUE':>8} {'UNIT':<5} {'TARGET':>7}")
    for name, (value, unit, target) in figures.items():
        bound = "" if target is None else f"{target:g}"
        mark = "" if target is None else "met" if value <= target else "MISSED"
        print(f"{name:<44} {value:>8.1f} {unit:<5} {bound:>7} {mark}".rstrip())
    runs_on = choose_accelerator(os.environ)
    print(f"bench: {machine()}; {runs_on}; a million additions {calibrate_ms():.0f} ms")
    OUTPUT.parent.mkdir(exist_ok=True)
    rows: dict[str, object] = {
        name: {"value": value, "unit": unit, "target": target}
        for name, (value, unit, target) in figures.items()
    }
    rows["machine"] = {"is": machine(), "accelerator": runs_on}
    OUTPUT.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
