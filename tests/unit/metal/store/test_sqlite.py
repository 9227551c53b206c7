# SPDX-License-Identifier: Apache-2.0
"""What only the SQLite store promises: group commit, no threads, one loop."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from metropolis.base.errors import AlreadyExistsError, NotFoundError
from metropolis.host.sim.clock import SimClock
from metropolis.metal.store import Kind, Reader, Stored, Transaction
from metropolis.metal.store.sqlite import open_sqlite
from metropolis.sim import simulate
from unit.metal.kit import StillClock, memory_store


class Thing(msgspec.Struct, kw_only=True, frozen=True):
    size: int = 0


THINGS = Kind(name="thing", type=Thing, facets={"size": lambda thing: [thing.size]})


def adds(key: str) -> Callable[[Transaction], Awaitable[Stored[Thing]]]:
    return lambda tx: tx.insert(THINGS, key, Thing())


def test_a_failed_change_does_not_undo_its_neighbours_in_the_group() -> None:
    async def scenario() -> None:
        async with memory_store() as store:

            async def spoiled(tx: Transaction) -> None:
                await tx.insert(THINGS, "bad", Thing())
                raise LookupError("on purpose")

            outcomes = await asyncio.gather(
                store.write(lambda tx: tx.insert(THINGS, "a", Thing())),
                store.write(spoiled),
                store.write(lambda tx: tx.insert(THINGS, "a", Thing())),
                store.write(lambda tx: tx.insert(THINGS, "b", Thing())),
                return_exceptions=True,
            )
            assert [type(each) for each in outcomes] == [
                Stored,
                LookupError,
                AlreadyExistsError,
                Stored,
            ]
            found = await store.read(lambda reader: reader.find(THINGS))
            assert [(each.id, each.revision) for each in found] == [("a", 1), ("b", 2)]

    asyncio.run(scenario())


def test_ready_writers_share_one_commit() -> None:
    async def scenario() -> None:
        async with memory_store() as store:
            commits: list[str] = []
            store._writer.set_trace_callback(
                lambda sql: commits.append(sql) if sql == "COMMIT" else None
            )
            await asyncio.gather(*(store.write(adds(f"{number:02}")) for number in range(32)))
            assert commits == ["COMMIT"]
            assert await store.read(lambda reader: reader.count(THINGS)) == 32

    asyncio.run(scenario())


@pytest.mark.parametrize("way", ["read", "write"])
def test_a_function_that_awaits_something_else_is_refused(way: str) -> None:
    async def scenario() -> None:
        async with memory_store() as store:

            async def wanders(reader: Reader) -> None:
                await reader.find(THINGS)
                await asyncio.sleep(0)

            with pytest.raises(AssertionError, match="awaits something else"):
                await getattr(store, way)(wanders)
            await store.write(lambda tx: tx.insert(THINGS, "a", Thing()))

    asyncio.run(scenario())


def test_a_writer_that_goes_away_before_its_turn_has_changed_nothing() -> None:
    async def scenario() -> None:
        async with memory_store() as store:
            async with asyncio.TaskGroup() as tasks:
                gone = tasks.create_task(store.write(lambda tx: tx.insert(THINGS, "gone", Thing())))
                tasks.create_task(store.write(lambda tx: tx.insert(THINGS, "stays", Thing())))
                await asyncio.sleep(0)
                gone.cancel()
            found = await store.read(lambda reader: reader.find(THINGS))
            assert [each.id for each in found] == ["stays"]

    asyncio.run(scenario())


def test_a_view_cannot_change_anything(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await open_sqlite(str(tmp_path / "metal.db"), clock=StillClock())
        await store.write(lambda tx: tx.insert(THINGS, "a", Thing()))
        with pytest.raises(Exception, match="readonly"):
            await store.read(lambda reader: reader.fetch("DELETE FROM entity"))
        await store.close()

    asyncio.run(scenario())


def test_what_was_answered_is_there_after_reopening_and_nobody_else_can_read_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "metal.db"

    async def scenario() -> None:
        store = await open_sqlite(str(path), clock=StillClock())
        written = await store.write(lambda tx: tx.insert(THINGS, "a", Thing(size=3)))
        await store.close()
        store = await open_sqlite(str(path), clock=StillClock())
        assert await store.read(lambda reader: reader.get(THINGS, "a")) == written
        await store.close()

    asyncio.run(scenario())
    assert path.stat().st_mode & 0o777 == 0o600


def test_another_process_that_looks_in_takes_nothing_away(tmp_path: Path) -> None:
    path = str(tmp_path / "metal.db")
    looks = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
    counts = "print(c.execute('SELECT count(*) FROM entity').fetchone()[0]); c.close()"

    def look() -> int:
        done = subprocess.run(
            [sys.executable, "-c", looks + counts, path], capture_output=True, check=True, text=True
        )
        return int(done.stdout)

    async def scenario() -> None:
        store = await open_sqlite(path, clock=StillClock())
        await store.write(adds("a"))
        assert look() == 1
        # Whoever closes the last connection removes the log of changes. If it took ours for gone,
        # what is written from here on would be in a file without a name, and lost with us.
        await store.write(adds("b"))
        assert look() == 2
        await store.close()

    asyncio.run(scenario())


def test_it_works_inside_of_a_simulation() -> None:
    async def scenario() -> list[str]:
        async with memory_store(SimClock()) as store:

            async def watch() -> list[str]:
                seen: list[str] = []
                async for changes in store.watch(0):
                    seen += [change.id for change in changes]
                    if len(seen) == 3:
                        break
                return seen

            async with asyncio.TaskGroup() as tasks:
                watcher = tasks.create_task(watch())
                for key in "abc":
                    await asyncio.sleep(60)
                    await store.write(adds(key))
            with pytest.raises(NotFoundError, match="no thing 'd'"):
                await store.read(lambda reader: reader.get(THINGS, "d"))
            return watcher.result()

    assert simulate(scenario, seed=7) == ["a", "b", "c"]
