# SPDX-License-Identifier: Apache-2.0
"""Streaming from the log tree: filters, slow readers, cancellation, closing."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from metropolis.host.sim.clock import SimClock
from metropolis.sim import simulate
from metropolis.supervision import (
    Entry,
    LeveledEntry,
    LogReader,
    LogReaderClosedError,
    LogTree,
    Missed,
    ReadOptions,
    Severity,
)


def simulated(scenario: Callable[[LogTree], Awaitable[None]], *, seed: int = 1) -> None:
    async def run() -> None:
        await scenario(LogTree(clock=SimClock()))

    simulate(run, seed=seed)


def text(item: Entry | Missed) -> str:
    if isinstance(item, Missed):
        return f"missed {item.count}"
    return item.lines[0] if isinstance(item, LeveledEntry) else f"raw {item.data.decode()}"


async def everything(reader: LogReader) -> list[str]:
    """Read until nothing comes for a second."""
    got: list[str] = []
    while True:
        try:
            async with asyncio.timeout(1):
                got.append(text(await reader.receive()))
        except TimeoutError:
            return got


@pytest.mark.parametrize(
    ("dn", "options", "expected"),
    [
        ("a.b", ReadOptions(stream=True), ["info a.b", "error a.b", "raw a.b"]),
        (
            "a.b",
            ReadOptions(stream=True, with_children=True),
            ["info a.b", "error a.b", "raw a.b", "info a.b.c", "error a.b.c", "raw a.b.c"],
        ),
        (
            "a.b",
            ReadOptions(stream=True, with_children=True, minimum_severity=Severity.ERROR),
            ["error a.b", "error a.b.c"],
        ),
        ("a.b", ReadOptions(stream=True, only_raw=True), ["raw a.b"]),
        ("a.b", ReadOptions(stream=True, only_leveled=True), ["info a.b", "error a.b"]),
        ("a", ReadOptions(stream=True), []),
        ("late", ReadOptions(stream=True, with_children=True), ["info late", "info late.child"]),
    ],
)
def test_a_stream_obeys_every_filter(dn: str, options: ReadOptions, expected: list[str]) -> None:
    async def scenario(tree: LogTree) -> None:
        tree.leveled("a.b").info("before")
        reader = tree.read(dn, options)
        for name in ("a.b", "a.bb", "x.y", "a.b.c"):
            tree.leveled(name).info("info %s", name)
            tree.leveled(name).error("error %s", name)
            tree.raw(name).write(f"{name}\n".encode())
        for name in ("late", "late.child"):
            tree.leveled(name).info("info %s", name)
        assert await everything(reader) == expected

    simulated(scenario)


def test_backlog_and_stream_meet_without_gap_or_overlap() -> None:
    async def scenario(tree: LogTree) -> None:
        log = tree.leveled("a")
        for number in range(10):
            log.info("%d", number)
        reader = tree.read("a", ReadOptions(backlog=3, stream=True))
        for number in range(10, 15):
            log.info("%d", number)
        got = [text(entry) for entry in reader.backlog] + await everything(reader)
        assert got == [str(n) for n in range(7, 15)]

    simulated(scenario)


def test_a_slow_reader_is_told_in_place_how_much_it_missed() -> None:
    async def scenario(tree: LogTree) -> None:
        log = tree.leveled("a")
        reader = tree.read("a", ReadOptions(stream=True))
        for number in range(1000):
            log.info("%d", number)
        for expected in range(28):
            assert text(await reader.receive()) == str(expected)
        log.info("after")
        for _ in range(500):
            log.info("again too many")
        got = await everything(reader)
        assert got[:100] == [str(n) for n in range(28, 128)]
        assert got[100:102] == ["missed 872", "after"]
        assert got[102:] == ["again too many"] * 27 + ["missed 473"]

    simulated(scenario)


def test_slow_readers_do_not_disturb_the_others() -> None:
    async def scenario(tree: LogTree) -> None:
        log = tree.leveled("a")
        slow, quick = (tree.read("a", ReadOptions(stream=True)) for _ in range(2))
        for number in range(300):
            log.info("%d", number)
            assert text(await quick.receive()) == str(number)
        assert len(await everything(slow)) == 129

    simulated(scenario)


@pytest.mark.parametrize("seed", range(20))
def test_a_cancelled_receive_loses_nothing(seed: int) -> None:
    async def scenario(tree: LogTree) -> None:
        reader = tree.read("a", ReadOptions(stream=True))
        got: list[str] = []

        async def write() -> None:
            for number in range(20):
                tree.leveled("a").info("%d", number)
                await asyncio.sleep(0.1)

        async def receive() -> None:
            while len(got) < 20:
                try:
                    async with asyncio.timeout(0.1):
                        got.append(text(await reader.receive()))
                except TimeoutError:
                    continue

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(write())
            tasks.create_task(receive())
        assert got == [str(n) for n in range(20)]

    simulated(scenario, seed=seed)


@pytest.mark.parametrize("closes", ["reader", "tree"])
def test_whoever_waits_on_a_closed_reader_is_told_after_the_rest_was_read(closes: str) -> None:
    async def scenario(tree: LogTree) -> None:
        reader = tree.read("a", ReadOptions(stream=True))
        tree.leveled("a").info("rest")

        async def close() -> None:
            await asyncio.sleep(1)
            (reader if closes == "reader" else tree).close()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(close())
            assert text(await reader.receive()) == "rest"
            with pytest.raises(LogReaderClosedError):
                await reader.receive()
        reader.close()
        tree.leveled("a").info("nobody listens")
        assert not tree.journals.by_dn["a"].listeners
        with pytest.raises(LogReaderClosedError):
            await reader.receive()

    simulated(scenario)


def test_closed_readers_leave_no_trace_in_new_names() -> None:
    async def scenario(tree: LogTree) -> None:
        for _ in range(100):
            tree.read("", ReadOptions(stream=True, with_children=True)).close()
        open_reader = tree.read("", ReadOptions(stream=True, with_children=True))
        tree.leveled("new").info("x")
        assert len(tree.journals.by_dn["new"].listeners) == 1
        open_reader.close()

    simulated(scenario)
