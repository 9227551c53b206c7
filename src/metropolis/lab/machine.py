# SPDX-License-Identifier: Apache-2.0
"""One machine of the rack: a power switch, a cable, a console, and what happened so far.

A machine is a process. When it ends, the machine has crashed, or rebooted, and is started again,
after a wait that doubles while it keeps ending at once; unless somebody switched the machine off,
or it was the machine that did (`is_power_off`). Pressing the switch ends the wait. (The tree's
back-off would not know about the switch.)
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from metropolis.host import Clock, Process, Processes, ProcessSpec
from metropolis.lab.console import ConsoleLog
from metropolis.supervision import Context

SHUTDOWN_S: Final = 15.0  # from SIGTERM until the power is cut
ASK_AGAIN_S: Final = 0.5  # a process 1 without a handler yet never sees a signal: repeat it
DRAIN_S: Final = 1.0  # how long the last lines of output may take
REBOOT_FIRST_S: Final = 0.5
REBOOT_MAX_S: Final = 10.0
STEADY_S: Final = 10.0  # after running this long, an end is not part of a crash loop


class Power(StrEnum):
    """Where the power switch is."""

    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineStatus:
    """What can be seen from outside.

    Attributes:
        is_running: Its process exists.
        starts: How often its process was started by this keeper.
        boots: How often it booted: with reboots that the process survives.
        last_exit: Exit code of the last process; 128 + n after signal n; None if none ended.
        running_s: Seconds since it was started; 0 when it does not run.
    """

    power: Power
    is_running: bool
    starts: int
    boots: int
    last_exit: int | None
    running_s: float


async def terminate(process: Process) -> None:
    """Ask a machine that is one process of this computer to shut down."""
    process.terminate()


async def watch_nothing(_on_reset: Callable[[], None]) -> None:
    """Of a machine whose process cannot outlive a reboot."""


def never(_exit_code: int) -> bool:
    """Of a machine that cannot switch itself off."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """How a driver makes one machine.

    Attributes:
        spec: Asked for what to run at the given start, counted from 1.
        press_button: Asks the running machine to shut down; repeated until it has.
        is_power_off: Whether this exit code means that the machine switched itself off.
        watch: Calls its argument at each reboot that the process survives; ends when it likes,
            and is cancelled when the process has ended.
        shutdown_s: From the first press of the button until the power is cut.
        put_away: Prepares the running machine for the end of the rack, so that its next start goes
            on from there; None: it is shut down instead.
    """

    spec: Callable[[int], ProcessSpec]
    press_button: Callable[[Process], Awaitable[None]] = terminate
    is_power_off: Callable[[int], bool] = never
    watch: Callable[[Callable[[], None]], Awaitable[None]] = watch_nothing
    shutdown_s: float = SHUTDOWN_S
    put_away: Callable[[], Awaitable[None]] | None = None


class Machine:
    """A machine as a runnable, and its switch. Belongs to one event loop."""

    def __init__(
        self,
        wiring: Wiring,
        *,
        processes: Processes,
        clock: Clock,
        console: ConsoleLog,
        power: Power,
    ) -> None:
        """Prepare a machine.

        Args:
            power: Where the switch is at first.
        """
        self._wiring = wiring
        self._processes = processes
        self._now_s = clock.monotonic_s
        self._console = console
        self._power = power
        self._process: Process | None = None
        self._starts = 0
        self._resets = 0
        self._last_exit: int | None = None
        self._started_s = 0.0
        self._reboot_s = REBOOT_FIRST_S
        self._is_impatient = False  # somebody pressed the switch since the last boot
        self._changed = asyncio.Condition()

    @property
    def status(self) -> MachineStatus:
        """What can be seen from outside, now."""
        return MachineStatus(
            power=self._power,
            is_running=self._process is not None,
            starts=self._starts,
            boots=self._starts + self._resets,
            last_exit=self._last_exit,
            running_s=self._now_s() - self._started_s if self._process is not None else 0.0,
        )

    async def run(self, ctx: Context) -> None:
        """Be a machine: run whenever the switch is on."""
        ctx.healthy()  # a machine that is off, or crashes, is a machine in order
        while True:
            await self._wait_for_power()
            self._starts += 1
            process = await self._processes.spawn(self._wiring.spec(self._starts))
            self._started_s = self._now_s()
            ctx.log.info("switched on, boot %d", self.status.boots)
            was_on = True
            try:
                await self._set_process(process)
                await self._attend(process)
            finally:
                process.kill()
                self._last_exit = _exit_code(await process.wait())
                self._console.close()
                if self._wiring.is_power_off(self._last_exit):
                    self._power = Power.OFF
                was_on = self._power is Power.ON
                await self._set_process(None)
            if was_on:
                ctx.log.warning("ended with code %d: rebooting", self._last_exit)
                await self._back_off()
            else:
                ctx.log.info("switched off")

    async def switch_on(self) -> None:
        """Turn the power on and wait until the machine runs. On already: only waits."""
        async with self._changed:
            self._power = Power.ON
            self._is_impatient = True
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._process is not None)

    async def switch_off(self, *, is_orderly: bool) -> None:
        """Press the button, and cut the power when that does not help; or cut it at once."""
        async with self._changed:
            self._power = Power.OFF
            self._changed.notify_all()
        process = self._process
        if process is not None and is_orderly:
            await self._ask_to_end(process)
        if process is not None:
            process.kill()
        async with self._changed:
            await self._changed.wait_for(lambda: self._process is not process or process is None)

    async def put_away(self) -> None:
        """End together with the rack, so that the next rack finds the machine as it likes it."""
        process = self._process
        if self._wiring.put_away is None or process is None:
            await self.switch_off(is_orderly=True)
            return
        async with self._changed:
            self._power = Power.OFF
        await self._wiring.put_away()
        await self.switch_off(is_orderly=False)

    async def _ask_to_end(self, process: Process) -> None:
        try:
            async with asyncio.timeout(self._wiring.shutdown_s):
                while self._process is process:
                    await self._wiring.press_button(process)
                    await self._wait_for_end(process, timeout_s=ASK_AGAIN_S)
        except TimeoutError:
            pass  # the power is cut next

    async def _wait_for_end(self, process: Process, *, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self._process is not process)
        except TimeoutError:
            pass

    async def _attend(self, process: Process) -> None:
        """Write down what it prints until it has ended and its output is drained."""
        async with asyncio.TaskGroup() as tasks:
            output = tasks.create_task(self._keep_output(process))
            watching = tasks.create_task(self._watch())
            await process.wait()
            watching.cancel()
            await asyncio.wait([output], timeout=DRAIN_S)
            output.cancel()

    async def _keep_output(self, process: Process) -> None:
        while (item := await process.receive_line()) is not None:
            self._console.write([item[1]])

    async def _watch(self) -> None:
        await self._wiring.watch(self._count_reset)

    def _count_reset(self) -> None:
        self._resets += 1

    async def _wait_for_power(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._power is Power.ON)
            self._is_impatient = False

    async def _back_off(self) -> None:
        """Wait before a reboot, unless somebody presses the switch."""
        if self._now_s() - self._started_s >= STEADY_S:
            self._reboot_s = REBOOT_FIRST_S
        wait_s, self._reboot_s = self._reboot_s, min(self._reboot_s * 2, REBOOT_MAX_S)
        try:
            async with asyncio.timeout(wait_s), self._changed:
                await self._changed.wait_for(lambda: self._is_impatient or self._power is Power.OFF)
        except TimeoutError:
            pass

    async def _set_process(self, process: Process | None) -> None:
        async with self._changed:
            self._process = process
            self._changed.notify_all()


def _exit_code(code: int) -> int:
    """Spell an exit like a shell: 128 + n after signal n."""
    return code if code >= 0 else 128 - code
