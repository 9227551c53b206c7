# SPDX-License-Identifier: Apache-2.0
"""What supervising a runnable costs: CPU time per restart, memory per runnable.

python bench/supervision.py
"""

import asyncio
import gc
import time
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from typing_extensions import override

from metropolis.supervision import Context, LogTree, Supervisor
from metropolis.supervision.tree import BACKOFF_MAX_S

RUNNABLES = 10_000
PAGE_BYTES = 4096

Measurement = tuple[float, str, float | None]  # value, unit, target


class _Clock:
    def monotonic_s(self) -> float:
        return time.monotonic()

    def wall(self) -> datetime:
        return datetime.now(UTC)


class _Jumping(asyncio.SelectorEventLoop):
    """A real loop whose timers are due as soon as nothing else is: back-offs cost no waiting."""

    _skipped_s = 0.0

    @override
    def time(self) -> float:
        return super().time() + self._skipped_s

    def skip(self, seconds: float) -> None:
        self._skipped_s += seconds


def measure() -> dict[str, Measurement]:
    """Return name -> (value, unit, target)."""
    with asyncio.Runner(loop_factory=_Jumping) as runner:
        return runner.run(_measure())


async def _measure() -> dict[str, Measurement]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _Jumping)
    starts = 0
    fail = asyncio.Event()

    async def crashing(ctx: Context) -> None:
        nonlocal starts
        starts += 1
        ctx.healthy()
        await fail.wait()
        raise ConnectionError("the peer went away")

    async def root(ctx: Context) -> None:
        for number in range(RUNNABLES):
            ctx.run(f"r{number}", crashing)
        ctx.healthy()
        await ctx.wait_cancelled()

    clock = _Clock()
    tree = Supervisor(root, log_tree=LogTree(clock=clock), clock=clock, rng=Random(1))
    gc.collect()
    before_bytes = _resident_bytes()
    started_s = time.process_time()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(tree.run())
        while starts < RUNNABLES:  # noqa: ASYNC110  # turns of the loop are what is measured
            await asyncio.sleep(0)
        start_us = (time.process_time() - started_s) / RUNNABLES * 1e6
        each_bytes = (_resident_bytes() - before_bytes) / RUNNABLES
        started_s = time.process_time()
        fail.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        fail.clear()
        loop.skip(BACKOFF_MAX_S)
        while starts < 2 * RUNNABLES:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0)
        restart_us = (time.process_time() - started_s) / RUNNABLES * 1e6
        failed_bytes = (_resident_bytes() - before_bytes) / RUNNABLES
        started_s = time.process_time()
        task.cancel()
        await asyncio.wait([task])
        stop_us = (time.process_time() - started_s) / RUNNABLES * 1e6
    return {
        "start of a runnable": (start_us, "us", None),
        "restart of a crashed runnable, with its log entry": (restart_us, "us", 50.0),
        "cancellation of a runnable": (stop_us, "us", None),
        "memory of a runnable, of 10,000": (each_bytes / 1024, "KiB", 3.0),
        "memory of a runnable that failed once, with its log": (failed_bytes / 1024, "KiB", None),
    }


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


if __name__ == "__main__":
    for name, (value, unit, target) in measure().items():
        print(f"{name:56} {value:12,.1f} {unit:5} target {target or '-'}")
