# SPDX-License-Identifier: Apache-2.0
"""External programs as coroutines: they print, hang, ignore signals and crash on command."""

import asyncio
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, final

from metropolis.base.errors import UnavailableError
from metropolis.host import Process, ProcessSpec

LINE_BYTES_MAX: Final = 16 * 1024
_FIRST_PID: Final = 100


@final
class SimProgram:
    """What a running program sees of its machine.

    Attributes:
        spec: How it was started.
        ignores_sigterm: Set by a program that only SIGKILL ends.
        sigterm: Set when SIGTERM came and is ignored, for programs that end in their own way.
    """

    def __init__(self, spec: ProcessSpec, output: Callable[[str, bytes], None]) -> None:
        self.spec = spec
        self.ignores_sigterm = False
        self.sigterm = asyncio.Event()
        self._output = output

    def say(self, line: str, *, stream: str = "stdout") -> None:
        """Print a line."""
        self._output(stream, line.encode())


Program = Callable[[SimProgram], Awaitable[int]]  # returns its exit code


@final
class SimProcess:
    """A running program. See `metropolis.host.Process`."""

    def __init__(self, pid: int, spec: ProcessSpec, program: Program) -> None:
        self.pid = pid
        self._lines: deque[tuple[str, bytes]] = deque()
        self._readable = asyncio.Event()
        self._exited = asyncio.Event()
        self._exit_code: int | None = None
        self._signal = 0
        self._program = SimProgram(spec, self._print)
        self._task = asyncio.get_running_loop().create_task(
            self._live(program), name=f"process {spec.argv[0]} {pid}"
        )
        self._task.add_done_callback(self._end)

    async def receive_line(self) -> tuple[str, bytes] | None:
        while not self._lines:
            if self._exit_code is not None:
                return None
            self._readable.clear()
            await self._readable.wait()
        return self._lines.popleft()

    async def wait(self) -> int:
        await self._exited.wait()
        assert self._exit_code is not None
        return self._exit_code

    def terminate(self) -> None:
        self._program.sigterm.set()
        if not self._program.ignores_sigterm:
            self._end_by(signal.SIGTERM)

    def kill(self) -> None:
        self._end_by(signal.SIGKILL)

    def _end_by(self, number: signal.Signals) -> None:
        if not self._task.done():
            self._signal = -int(number)
            self._task.cancel()

    async def _live(self, program: Program) -> int:
        return await program(self._program)

    def _print(self, stream: str, line: bytes) -> None:
        self._lines.append((stream, line[:LINE_BYTES_MAX]))
        self._readable.set()

    def _end(self, task: asyncio.Task[int]) -> None:
        if task.cancelled():
            self._exit_code = self._signal or -int(signal.SIGKILL)
        else:
            error = task.exception()
            if error is not None:  # a crash, as a segmentation fault would be
                self._print("stderr", repr(error).encode())
            self._exit_code = task.result() if error is None else -int(signal.SIGSEGV)
        self._exited.set()
        self._readable.set()


@final
class SimProcesses:
    """Starts programs by the name of their executable.

    Args:
        programs: First word of the command line -> coroutine function.
    """

    def __init__(self, programs: Mapping[str, Program]) -> None:
        self._programs = programs
        self._next_pid = _FIRST_PID
        self._running: dict[int, SimProcess] = {}
        self._has_power = True

    async def spawn(self, spec: ProcessSpec) -> Process:
        await asyncio.sleep(0)
        program = self._programs.get(spec.argv[0])
        if program is None or not self._has_power:
            raise UnavailableError(
                f"cannot run {spec.argv[0]}", remedy=f"Install the program {spec.argv[0]}."
            )
        self._next_pid += 1
        process = SimProcess(self._next_pid, spec, program)
        self._running[process.pid] = process
        return process

    def crash(self) -> None:
        """Cut the power: every program ends at once, and none starts any more."""
        self._has_power = False
        for process in self._running.values():
            process.kill()
        self._running.clear()
