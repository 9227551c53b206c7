# SPDX-License-Identifier: Apache-2.0
"""Virtual machines, inside the keeper."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from metropolis.base.errors import MetropolisError
from metropolis.host import Process, Processes, ProcessSpec
from metropolis.lab import network
from metropolis.lab.driver import Cable
from metropolis.lab.leftovers import marker
from metropolis.lab.machine import Wiring
from metropolis.lab.model import Rack
from metropolis.lab.qemu.accelerator import choose_accelerator
from metropolis.lab.qemu.arguments import (
    CLOCK,
    DISK,
    MEMORY,
    MONITOR,
    Accelerator,
    Disk,
    Hardware,
)
from metropolis.lab.qemu.blank import MEDIUM
from metropolis.lab.qemu.boot import BootSpec, argv
from metropolis.lab.qemu.dhcp import DhcpServer
from metropolis.lab.qemu.firmware import find_firmware
from metropolis.lab.qemu.monitor import Monitor, connect_monitor
from metropolis.lab.qemu.requirements import program_path
from metropolis.lab.state import ClusterDirectory
from metropolis.supervision import Context

SHUTDOWN_S: Final = 25.0  # from the power button until the power is cut
_FREEZE_S: Final = 60.0
_LOOK_AGAIN_S: Final = 0.1


class QemuDriver:
    """Makes machines that are virtual."""

    def __init__(self, rack: Rack, directory: ClusterDirectory, processes: Processes) -> None:
        """Look at this computer.

        Raises:
            FailedPreconditionError: something that virtual machines need is missing.
        """
        self._rack = rack
        self._directory = directory
        self._accelerator = choose_accelerator(os.environ)
        self._firmware = find_firmware((directory.image,))
        self._environment = {
            **os.environ,
            "PATH": program_path(os.environ),
            **marker(directory),
        }
        self._dhcp = DhcpServer(rack, directory, processes, environment=self._environment)
        self._monitors: dict[int, Monitor] = {}

    def is_prepared(self, number: int) -> bool:
        """Whether a machine has been told what to be; before that it stays off.

        A machine that its operator installs is switched on by nobody else; it only goes on.
        """
        return (self._directory.node(number) / (MEMORY if self._rack.is_blank else DISK)).exists()

    def wiring(self, number: int, cable: Callable[[], Cable]) -> Wiring:
        """How to make a machine."""
        return Wiring(
            spec=lambda start: self._spec(number, start, cable()),
            press_button=partial(self._press_button, number),
            is_power_off=lambda code: code == 0,
            watch=partial(self._watch, number),
            shutdown_s=SHUTDOWN_S,
            put_away=partial(self._put_away, number),
        )

    def services(self) -> Mapping[str, Callable[[Context], Awaitable[None]]]:
        """What the rack has beside machines."""
        return {"dhcp": self._dhcp.run}

    def readdressed(self, rack: Rack) -> None:
        """The next start of a machine asks for its address."""
        self._rack = rack
        self._dhcp.serve(rack)

    def _spec(self, number: int, start: int, cable: Cable) -> ProcessSpec:
        port = network.port_name(number, start=start)
        hardware = Hardware(
            name=f"{self._rack.name}-{number}",
            accelerator=self._accelerator,
            firmware=str(self._firmware.code),
            mac=network.mac(number),
            disks=self._disks(number),
            tap=port,
            cpus=processors(self._accelerator, machines=self._rack.count),
            clock=self._battery_clock(number),
            takes_parameters=not self._rack.is_blank,
        )
        spec = BootSpec(
            directory=str(self._directory.node(number)),
            hardware=hardware,
            links=network.plug_in_tap(port=port, part=cable.part, is_up=cable.is_up),
        )
        return ProcessSpec(argv=argv(spec), environment=self._environment)

    def _disks(self, number: int) -> Sequence[Disk]:
        """The disk, and the stick that somebody has plugged in."""
        is_in = (self._directory.node(number) / MEDIUM).exists()
        stick = (Disk(path=MEDIUM, is_removable=True),) if is_in else ()
        return (Disk(path=DISK), *stick)

    def _battery_clock(self, number: int) -> str:
        """What a machine's clock says at power-on: right, unless a file in its directory tells."""
        try:
            return (self._directory.node(number) / CLOCK).read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return "utc"

    async def _press_button(self, number: int, _process: Process) -> None:
        """A machine without a monitor has just begun, or is about to end: press again later."""
        if (monitor := self._monitors.get(number)) is not None:
            with contextlib.suppress(MetropolisError, TimeoutError):
                await monitor.press_power_button()

    async def _put_away(self, number: int) -> None:
        """Freeze a machine: shut down, an encrypted cluster could not open its disks any more."""
        if (monitor := self._monitors.get(number)) is None:
            return  # it has hardly begun
        memory = self._directory.node(number) / MEMORY
        unfinished = memory.with_name(f"{memory.name}.new")
        try:
            async with asyncio.timeout(_FREEZE_S):
                await monitor.freeze(unfinished)
        except (MetropolisError, TimeoutError):
            unfinished.unlink(missing_ok=True)
            return
        unfinished.rename(memory)

    async def _watch(self, number: int, on_reset: Callable[[], None]) -> None:
        """Keep the one connection to a machine's QEMU."""

        def notice(event: str, data: Mapping[str, Any]) -> None:
            if event == "RESET" and data.get("guest"):
                on_reset()

        path = self._socket(number)
        while True:
            with contextlib.suppress(MetropolisError, TimeoutError):
                async with connect_monitor(path, notice) as monitor:
                    await monitor.thaw()
                    self._monitors[number] = monitor
                    try:
                        await monitor.closed()
                    finally:
                        del self._monitors[number]
            await asyncio.sleep(_LOOK_AGAIN_S)

    def _socket(self, number: int) -> Path:
        return self._directory.node(number) / MONITOR


def processors(accelerator: Accelerator, *, machines: int) -> int:
    """How many processors a machine gets, so that the rack has about as many as the computer."""
    own = os.cpu_count() or 1
    if accelerator is Accelerator.KVM:
        return 2
    return 2 if own >= 2 * machines else 1
