# SPDX-License-Identifier: Apache-2.0
"""Stores for tests of Metal.

    from unit.metal.kit import memory_store

    def test_something() -> None:
        async def scenario() -> None:
            async with memory_store() as store:
                await store.write(lambda tx: tx.insert(SIZES, "small", Size(...)))

        asyncio.run(scenario())

For a test on both databases ask for the fixture `store_url` (see kits/postgres.py) and use
`async with opened(store_url) as store`. A database in memory is made in 2 ms, so every test has its
own. `clock` is any `Clock`; the default stands still at `NOW` and moves when told:
`clock.advance(seconds)`. The same store works inside of `metropolis.sim.simulate`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from metropolis.host import Clock
from metropolis.metal.store import Store
from metropolis.metal.store.opening import open_store
from metropolis.metal.store.sqlite import MEMORY, SqliteStore, open_sqlite

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


class StillClock:
    """A clock that moves only when it is told to."""

    def __init__(self, now: datetime = NOW) -> None:
        self._start = now
        self._now = now

    def monotonic_s(self) -> float:
        return (self._now - self._start).total_seconds()

    def wall(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)


@asynccontextmanager
async def memory_store(clock: Clock | None = None) -> AsyncIterator[SqliteStore]:
    """An empty database in memory."""
    store = await open_sqlite(MEMORY, clock=clock or StillClock())
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def opened(url: str, clock: Clock | None = None) -> AsyncIterator[Store]:
    """A store by its address, as the fixtures `store_url` and `postgres_url` give it."""
    store = await open_store(url, clock=clock or StillClock())
    try:
        yield store
    finally:
        await store.close()
