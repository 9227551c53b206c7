# SPDX-License-Identifier: Apache-2.0
"""What an entry of the log tree costs, in CPU time.

python bench/logtree.py
"""

import asyncio
import time
from datetime import UTC, datetime

from metropolis.supervision import LogReader, LogTree, Missed, ReadOptions

ENTRIES = 200_000
ROUNDS = 5
BURST = 100  # entries between two turns of the event loop: fewer than a reader may lag behind
READERS = 10

Measurement = tuple[float, str, float | None]  # value, unit, target


class _Clock:
    def monotonic_s(self) -> float:
        return time.monotonic()

    def wall(self) -> datetime:
        return datetime.now(UTC)


def measure() -> dict[str, Measurement]:
    """Return name -> (value, unit, target)."""
    appended, delivered = asyncio.run(_streaming())
    return {
        "log append, formatted, no reader": (_appends(readers=0), "1/s", 1_000_000),
        "log append, ten readers that keep up": (appended, "1/s", 300_000),
        "log append, ten readers that lag": (_appends(readers=READERS), "1/s", 300_000),
        "log append, raw line": (_raw_lines(), "1/s", None),
        "log append and reading by ten readers": (delivered, "1/s", None),
        "log read, 65,536 entries of a subtree": (_backlog_ms(), "ms", None),
    }


def _tree(readers: int) -> tuple[LogTree, list[LogReader]]:
    tree = LogTree(clock=_Clock())
    options = ReadOptions(with_children=True, stream=True)
    return tree, [tree.read("root", options) for _ in range(readers)]


def _appends(*, readers: int) -> float:
    tree, _ = _tree(readers)
    log = tree.leveled("root.role.kubernetes.apiserver")
    best_s = float("inf")
    for _ in range(ROUNDS):
        started_s = time.process_time()
        for _ in range(ENTRIES):
            log.info("pod %s took %d ms", "abc", 5)
        best_s = min(best_s, time.process_time() - started_s)
    return ENTRIES / best_s


def _raw_lines() -> float:
    tree, _ = _tree(0)
    raw = tree.raw("root.time")
    started_s = time.process_time()
    for _ in range(ENTRIES):
        raw.line(b"2022-02-28T13:30:45Z chronyd version 4.1 starting")
    return ENTRIES / (time.process_time() - started_s)


async def _streaming() -> tuple[float, float]:
    """Return how many entries a second ten readers let through: appended only, and read too."""
    tree, readers = _tree(READERS)
    log = tree.leveled("root.role.kubernetes.apiserver")
    bursts = ENTRIES // 10 // BURST
    appending_s = 0.0
    started_s = time.process_time()

    async def consume(reader: LogReader) -> None:
        for _ in range(bursts * BURST):
            assert not isinstance(await reader.receive(), Missed), "these readers keep up"

    async with asyncio.TaskGroup() as tasks:
        for reader in readers:
            tasks.create_task(consume(reader))
        for _ in range(bursts):
            burst_s = time.process_time()
            for _ in range(BURST):
                log.info("pod %s took %d ms", "abc", 5)
            appending_s += time.process_time() - burst_s
            for _ in range(3):  # readers wake up, read, and wait again
                await asyncio.sleep(0)
    entries = bursts * BURST
    return entries / appending_s, entries / (time.process_time() - started_s)


def _backlog_ms() -> float:
    tree, _ = _tree(0)
    logs = [tree.leveled(f"root.r{number}") for number in range(16)]
    for _ in range(4096):
        for log in logs:
            log.info("pod %s took %d ms", "abc", 5)
    started_s = time.process_time()
    reader = tree.read("root", ReadOptions(with_children=True, backlog=None))
    count = sum(len(chunk) for chunk in reader.backlog_chunks())
    assert count == 65_536
    return (time.process_time() - started_s) * 1000


if __name__ == "__main__":
    for name, (value, unit, target) in measure().items():
        print(f"{name:56} {value:12,.1f} {unit:5} target {target or '-'}")
