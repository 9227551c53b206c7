# SPDX-License-Identifier: Apache-2.0
"""External programs: each in a session of its own, dying with us, its output read line by line.

Exits are seen through a pidfd on the running loop, so no child watcher and no SIGCHLD handler is
needed, and it works the same on asyncio's loop and on uvloop.
"""

import asyncio
import contextlib
import ctypes
import functools
import os
import signal
import subprocess
from collections import deque
from types import FrameType
from typing import Final, final

from metropolis.base.errors import UnavailableError
from metropolis.host import Process, ProcessSpec

LINE_BYTES_MAX: Final = 16 * 1024
_LINES_BUFFERED_MAX: Final = 256  # per process; above it we stop reading and the program waits
_READ_BYTES: Final = 64 * 1024
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

_libc: Final = ctypes.CDLL(None, use_errno=True)  # resolved before any fork


@final
class LinuxProcesses:
    """Starts programs. Call it from the loop's own thread only (PR_SET_PDEATHSIG is per thread)."""

    def __init__(self) -> None:
        self._running: dict[int, _LinuxProcess] = {}

    async def spawn(self, spec: ProcessSpec) -> Process:
        """Start a program with exactly the environment and standard input given.

        Raises:
            UnavailableError: it cannot be executed; the message names the program.
        """
        assert spec.argv, "a program has a name"
        standard_input = _readable(spec.standard_input)
        try:
            popen = subprocess.Popen(  # noqa: ASYNC220  # forks from this thread on purpose, see above
                list(spec.argv),
                stdin=standard_input,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(spec.environment),
                cwd=spec.working_directory,
                start_new_session=True,
                # Two system calls through a library that is loaded already: no lock is needed.
                preexec_fn=functools.partial(_die_with_parent, os.getpid()),  # noqa: PLW1509
            )
        except (OSError, subprocess.SubprocessError) as cause:
            raise UnavailableError(
                f"cannot run {spec.argv[0]}",
                remedy=f"Check that {spec.argv[0]} is installed and executable.",
            ) from cause
        finally:
            if standard_input != subprocess.DEVNULL:
                os.close(standard_input)
        process = _LinuxProcess(popen, running=self._running)
        self._running[popen.pid] = process
        return process

    def adopt_orphans(self) -> None:
        """Reap processes that the kernel hands to us as PID 1 (or subreaper) of a namespace.

        Without it every program that outlives its parent becomes a zombie. Call it once, inside
        the running loop, from the main thread.
        """
        loop = asyncio.get_running_loop()
        try:
            loop.add_signal_handler(signal.SIGCHLD, self._reap_orphans)
        except RuntimeError:  # uvloop keeps it for itself; it lets Python's own handlers run

            def tell(_number: int, _frame: FrameType | None) -> None:
                loop.call_soon_threadsafe(self._reap_orphans)

            signal.signal(signal.SIGCHLD, tell)
        self._reap_orphans()

    def _reap_orphans(self) -> None:
        while True:
            try:
                exited = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if exited is None:
                return
            ours = self._running.get(exited.si_pid)
            if ours is not None:
                ours.reap()  # its pidfd would have told us in a moment
            else:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(exited.si_pid, os.WNOHANG)


def _readable(content: bytes | None) -> int:
    """Return a descriptor that reads as `content`; for no content, subprocess's word for that.

    It fits into the pipe, so nobody has to go on writing while the program reads.
    """
    if content is None:
        return subprocess.DEVNULL
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        written = os.write(writing, content)
        assert written == len(content), "bounded by STANDARD_INPUT_BYTES_MAX"
    finally:
        os.close(writing)
    return reading


def _die_with_parent(parent_pid: int) -> None:
    """Between fork and exec: have the kernel kill us when the parent dies, even by SIGKILL."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before the line above
        os._exit(1)


class _LinuxProcess:
    """One running program, leader of its own session and process group."""

    def __init__(
        self, popen: "subprocess.Popen[bytes]", *, running: "dict[int, _LinuxProcess]"
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._popen = popen
        self._running = running
        self.pid = popen.pid
        self._exit_code: asyncio.Future[int] = self._loop.create_future()
        self._lines: deque[tuple[str, bytes]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._is_paused = False
        self._open: dict[str, int] = {}
        self._partial = {"stdout": _LineCutter(), "stderr": _LineCutter()}
        for name, pipe in (("stdout", popen.stdout), ("stderr", popen.stderr)):
            assert pipe is not None
            descriptor = os.dup(pipe.fileno())
            pipe.close()
            os.set_blocking(descriptor, False)
            self._open[name] = descriptor
            self._loop.add_reader(descriptor, self._read, name)
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self.reap)

    async def receive_line(self) -> tuple[str, bytes] | None:
        """Return the next line of either stream, or None after both were closed."""
        while not self._lines:
            if not self._open:
                return None
            assert self._waiter is None, "a process has one reader of its output"
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        line = self._lines.popleft()
        if self._is_paused and len(self._lines) <= _LINES_BUFFERED_MAX // 2:
            self._is_paused = False
            for name, descriptor in self._open.items():
                self._loop.add_reader(descriptor, self._read, name)
        return line

    async def wait(self) -> int:
        """Wait for the exit; negative numbers are signals."""
        return await asyncio.shield(self._exit_code)

    def terminate(self) -> None:
        """Send SIGTERM to the whole group; harmless after the exit."""
        self._signal_group(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the whole group; harmless after the exit."""
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        if self._exit_code.done():
            return  # reaped: its number may already belong to somebody else
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def reap(self) -> None:
        """Collect the exit once there is one. Whoever it left behind in its group is killed."""
        if self._exit_code.done():
            return
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return
        self._signal_group(signal.SIGKILL)  # before reaping: the zombie still holds the number
        code = self._popen.wait()
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        del self._running[self.pid]
        self._exit_code.set_result(code)

    def _read(self, name: str) -> None:
        descriptor = self._open[name]
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        cutter = self._partial[name]
        self._lines.extend((name, line) for line in cutter.feed(data))
        if not data:
            self._lines.extend((name, line) for line in cutter.end())
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
            del self._open[name]
        if self._waiter is not None and not self._waiter.done() and (self._lines or not self._open):
            self._waiter.set_result(None)
        if len(self._lines) >= _LINES_BUFFERED_MAX and not self._is_paused:
            self._is_paused = True
            for open_descriptor in self._open.values():
                self._loop.remove_reader(open_descriptor)


class _LineCutter:
    """Cuts a stream into lines; what a line has beyond the limit is dropped."""

    def __init__(self) -> None:
        self._partial = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes; return the lines that are now complete, without their newline."""
        *complete, rest = data.split(b"\n")
        lines: list[bytes] = []
        for piece in complete:
            self._add(piece)
            lines.append(bytes(self._partial))
            self._partial.clear()
        self._add(rest)
        return lines

    def end(self) -> list[bytes]:
        """The stream ended; return the line that lacked its newline, if any."""
        lines = [bytes(self._partial)] if self._partial else []
        self._partial.clear()
        return lines

    def _add(self, piece: bytes) -> None:
        self._partial += piece[: LINE_BYTES_MAX - len(self._partial)]
