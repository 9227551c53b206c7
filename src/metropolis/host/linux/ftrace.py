# SPDX-License-Identifier: Apache-2.0
"""Kernel function tracing through tracefs. Source: Documentation/trace/ftrace.rst of the kernel."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from metropolis.base.errors import FailedPreconditionError
from metropolis.host.linux import mounts

TRACEFS: Final = Path("/sys/kernel/tracing")
_READ_BYTES: Final = 64 << 10
_LINE_BYTES_MAX: Final = 4 << 10
_ALL: Final = "#### all functions enabled ####"


class LinuxFtrace:
    """Implements `metropolis.host.KernelTracer`.

    Args:
        root: Where tracefs is, or gets mounted.
    """

    def __init__(self, root: Path = TRACEFS) -> None:
        self._root = root

    def trace(
        self, tracer: str, *, functions: Sequence[str], graph_functions: Sequence[str]
    ) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        return self._trace(tracer, functions, graph_functions)

    @asynccontextmanager
    async def _trace(
        self, tracer: str, functions: Sequence[str], graph_functions: Sequence[str]
    ) -> AsyncGenerator[AsyncIterator[str], None]:
        # In threads: to change the kernel's code takes it seconds on a slow machine.
        loop = asyncio.get_running_loop()
        beginning = loop.run_in_executor(None, self._begin, tracer, functions, graph_functions)
        try:
            yield _lines(await asyncio.shield(beginning))
        finally:
            await asyncio.wait([beginning])  # who leaves early does not stop the thread
            if beginning.exception() is None:
                os.close(beginning.result())
                await loop.run_in_executor(None, self._reset)

    def _begin(self, tracer: str, functions: Sequence[str], graph_functions: Sequence[str]) -> int:
        """Start the trace; return the descriptor that its lines are read from."""
        self._mount()
        known = self._read("available_tracers").split()
        if tracer not in known:
            raise FailedPreconditionError(
                f"this kernel has no tracer {tracer}", remedy=f"It has {', '.join(known)}."
            )
        self._reset()
        try:
            for name, wanted in (
                ("set_ftrace_filter", functions),
                ("set_graph_function", graph_functions),
            ):
                self._choose(name, wanted)
            self._write("current_tracer", tracer)
            # Only now: while somebody reads, the kernel lets nobody change the tracer.
            pipe = os.open(self._root / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._write("tracing_on", "1")
        except BaseException:
            self._reset()
            raise
        return pipe

    def _choose(self, name: str, functions: Sequence[str]) -> None:
        for function in functions:
            # With an end of line: without, the kernel looks at it when nobody listens.
            self._write(name, f"{function}\n", appends=True)
        if functions and _ALL in self._read(name):
            raise FailedPreconditionError(f"the kernel took no function of {name}")

    def _mount(self) -> None:
        if (self._root / "available_tracers").exists():
            return
        if not self._root.is_dir():
            raise FailedPreconditionError(
                "this kernel offers no tracing", remedy="Use a kernel with CONFIG_FTRACE."
            )
        mounts.mount_new("tracefs", self._root)

    def _reset(self) -> None:
        """Leave nothing behind: a tracer slows the whole machine down."""
        for name, value in (("tracing_on", "0"), ("current_tracer", "nop"), ("trace", "")):
            self._write(name, value)
        for name in ("set_ftrace_filter", "set_graph_function"):
            with contextlib.suppress(FailedPreconditionError):  # not every kernel has both
                self._write(name, "")

    def _read(self, name: str) -> str:
        return (self._root / name).read_text(encoding="ascii")

    def _write(self, name: str, value: str, *, appends: bool = False) -> None:
        try:
            with (self._root / name).open("a" if appends else "w", encoding="ascii") as file:
                file.write(value)
        except OSError as cause:
            raise FailedPreconditionError(
                f"the kernel refuses {value.strip()!r} in {name}: {cause.strerror}",
                remedy="Name functions that this kernel can trace.",
            ) from cause


async def _lines(pipe: int) -> AsyncIterator[str]:
    rest = b""
    while True:
        try:
            data = os.read(pipe, _READ_BYTES)
        except BlockingIOError:
            await _readable(pipe)
            continue
        if not data:
            await _readable(pipe)
            continue
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line[:_LINE_BYTES_MAX].decode("utf-8", "replace")


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(descriptor, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
