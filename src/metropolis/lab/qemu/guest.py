# SPDX-License-Identifier: Apache-2.0
"""One virtual machine as a library, without a keeper: for tests and measurements.

async with Guest(directory, hardware) as guest:      # power on
    await guest.wait_for(r"API ready", timeout_s=60)
    await guest.press_power_button()
    await guest.wait_off(timeout_s=20)
# whatever still runs is killed: a power cut
"""

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from metropolis.base.errors import DeadlineExceededError, UnavailableError
from metropolis.host import Process, ProcessSpec
from metropolis.host.linux.clock import LinuxClock
from metropolis.host.linux.processes import LinuxProcesses
from metropolis.lab.console import ConsoleLog, plain
from metropolis.lab.qemu.arguments import MONITOR, Hardware
from metropolis.lab.qemu.boot import BootSpec, argv
from metropolis.lab.qemu.monitor import connect_monitor

CONSOLE: Final = "console.log"
_LAST_LINES: Final = 12
_LOOK_AGAIN_S: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the console.

    Attributes:
        at_s: Seconds since power-on.
        text: Without control sequences.
    """

    at_s: float
    text: str


class Guest:
    """A virtual machine in a directory that holds its disk, its firmware variables and its TPM."""

    def __init__(self, directory: Path, hardware: Hardware, *, links: Sequence[str] = ()) -> None:
        """Prepare; `async with` switches it on."""
        self.directory = directory
        self._spec = BootSpec(directory=str(directory), hardware=hardware, links=links)
        self._now_s = LinuxClock().monotonic_s
        self._changed = asyncio.Condition()
        self._process: Process | None = None
        self._exit_code: int | None = None
        self._started_s = 0.0
        self._output: asyncio.Task[None] | None = None
        self.lines: list[Line] = []

    async def __aenter__(self) -> Self:
        """Switch it on."""
        spec = ProcessSpec(argv=argv(self._spec), environment=dict(os.environ))
        self._process = await LinuxProcesses().spawn(spec)
        self._started_s = self._now_s()
        self._output = asyncio.create_task(self._read(self._process))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cut the power, if it is still on."""
        await self.cut()

    @property
    def is_on(self) -> bool:
        """Whether QEMU runs."""
        return self._exit_code is None

    @property
    def process_id(self) -> int:
        """QEMU's."""
        assert self._process is not None, "it was never switched on"
        return self._process.pid

    def text(self, start: int = 0) -> str:
        """What the console said from its line `start` on."""
        return "\n".join(line.text for line in self.lines[start:])

    async def wait_for(self, pattern: str, *, timeout_s: float, start: int = 0) -> Line:
        """Wait until a line matches; lines before `start` do not count.

        Raises:
            DeadlineExceededError: none came in time; the message holds the last lines.
            UnavailableError: the machine went off first.
        """
        wanted = re.compile(pattern)
        seen = start
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                while True:
                    for line in self.lines[seen:]:
                        if wanted.search(line.text):
                            return line
                    seen = len(self.lines)
                    if not self.is_on:
                        raise UnavailableError(
                            f"the machine went off before it said {pattern!r}: {self._last()}",
                            remedy=f"Read {self.directory / CONSOLE}.",
                        )
                    await self._changed.wait()
        except TimeoutError as cause:
            raise DeadlineExceededError(
                f"the machine did not say {pattern!r} in {timeout_s:g} s: {self._last()}",
                remedy=f"Read {self.directory / CONSOLE}.",
            ) from cause

    async def wait_off(self, *, timeout_s: float) -> int:
        """Wait until the machine has switched itself off; return QEMU's exit code, 0 in order.

        Raises:
            DeadlineExceededError: it did not, in time.
        """
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: not self.is_on)
        except TimeoutError as cause:
            raise DeadlineExceededError(
                f"the machine is still on after {timeout_s:g} s: {self._last()}",
                remedy=f"Read {self.directory / CONSOLE}.",
            ) from cause
        assert self._exit_code is not None
        return self._exit_code

    async def cut(self) -> None:
        """Cut the power."""
        assert self._process is not None, "it was never switched on"
        assert self._output is not None
        self._process.kill()
        await self._output

    async def press_power_button(self) -> None:
        """Ask the guest to switch itself off."""
        await self.execute("system_powerdown")

    async def reset(self) -> None:
        """Press the reset button."""
        await self.execute("system_reset")

    async def execute(self, command: str, **arguments: object) -> object:
        """Have QEMU do something: a command of its monitor protocol."""
        while self.is_on and not (self.directory / MONITOR).exists():  # noqa: ASYNC110  # a file
            await asyncio.sleep(_LOOK_AGAIN_S)
        async with connect_monitor(self.directory / MONITOR) as monitor:
            return await monitor.execute(command, **arguments)

    async def _read(self, process: Process) -> None:
        console = ConsoleLog(self.directory / CONSOLE)
        while (item := await process.receive_line()) is not None:
            console.write([item[1]])
            text = plain(item[1].decode("utf-8", "replace")).rstrip()
            async with self._changed:
                self.lines.append(Line(at_s=self._now_s() - self._started_s, text=text))
                self._changed.notify_all()
        console.close()
        code = await process.wait()
        async with self._changed:
            self._exit_code = code
            self._changed.notify_all()

    def _last(self) -> str:
        return " | ".join(line.text for line in self.lines[-_LAST_LINES:] if line.text)
