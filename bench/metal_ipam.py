# SPDX-License-Identifier: Apache-2.0
"""Metal's address books on a durable PostgreSQL and on SQLite: nothing counts before its commit.

Every client waits for its answer before it asks again. Those that are many share transactions
(`AddressDesk`), as the callers of one replica do.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from metropolis.host.linux.clock import LinuxClock
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.metal.ipam import addresses, prefixes
from metropolis.metal.ipam.desk import open_desk
from metropolis.metal.store import Store, Transaction
from metropolis.metal.store.opening import open_store

Measurement = tuple[float, str, float | None]  # value, unit, target

TESTS = Path(__file__).resolve().parent.parent / "tests"
CIDR, PARENT = "10.0.0.0/16", "11.0.0.0/8"
TAKEN = 20_000
CLIENTS = 32
SECONDS = 2.0
COUNT_MAX = 20_000  # of one figure, so that the /16 suffices for all
FEW, MANY = 100, 10_000


def measure() -> dict[str, Measurement]:
    """Return name -> (value, unit, target)."""
    sys.path.insert(0, str(TESTS))
    from kits.postgres import PostgresServer  # noqa: PLC0415  # after the path is known

    figures: dict[str, Measurement] = {}
    server = PostgresServer(durable=True)
    try:
        url = server.url(server.new_database())
        one, many, child, child_flat, flat = uvloop.run(_run(url))
    finally:
        server.stop()
    figures["postgres acquire, 1 client"] = (one, "/s", 4000)
    figures["postgres acquire, 32 clients"] = (many, "/s", 7000)
    figures["postgres child, 1 client"] = (child, "/s", 2030)
    figures["postgres acquire, 10,000 to 100 taken"] = (flat, "times", 1.5)
    figures["postgres child, 10,000 to 100 cut"] = (child_flat, "times", 1.5)
    with tempfile.TemporaryDirectory() as directory:
        figures["disk flush, median"] = (_flush_us(Path(directory)), "us", None)
        one, many, child, child_flat, flat = uvloop.run(_run(f"{directory}/bench.db"))
    figures["sqlite acquire, 1 client"] = (one, "/s", None)
    figures["sqlite acquire, 32 clients"] = (many, "/s", 20_000)
    figures["sqlite child, 1 client"] = (child, "/s", None)
    figures["sqlite acquire, 10,000 to 100 taken"] = (flat, "times", 1.5)
    figures["sqlite child, 10,000 to 100 cut"] = (child_flat, "times", 1.5)
    return figures


def _flush_us(directory: Path) -> float:
    """Return what one client must wait for at least: compare figures only where this is alike."""
    durations: list[float] = []
    with (directory / "flushed").open("wb", buffering=0) as file:
        for _ in range(201):
            began_s = time.perf_counter()
            file.write(bytes(8192))
            os.fdatasync(file.fileno())
            durations.append(time.perf_counter() - began_s)
    return sorted(durations)[len(durations) // 2] * 1e6


async def _run(url: str) -> tuple[float, float, float, float, float]:
    store = await open_store(url, clock=LinuxClock())
    try:
        for cidr in (CIDR, PARENT):
            await store.write(lambda tx, each=cidr: prefixes.create_prefix(tx, each))  # type: ignore[misc]
        got: list[str] = []

        async def one() -> None:
            taken = await store.write(lambda tx: addresses.acquire_address(tx, CIDR), serial=False)
            got.append(taken.address)

        flat = await _flatness(one, lambda count: _fill(store, count))
        await _fill(store, TAKEN - MANY)
        async with open_desk(store, LinuxEntropy()) as desk:

            async def shared() -> None:
                got.append((await desk.acquire(CIDR)).address)

            alone_per_s = await _rate(shared, 1)
            many_per_s = await _rate(shared, CLIENTS)
        assert len(got) == len(set(got)), "an address was handed out twice"

        async def child() -> None:
            await store.write(lambda tx: prefixes.acquire_child(tx, PARENT, 26), serial=False)

        child_flat = await _flatness(child, lambda count: _cut(store, count))
        child_per_s = await _rate(child, 1)
    finally:
        await store.close()
    return alone_per_s, many_per_s, child_per_s, child_flat, flat


async def _fill(store: Store, count: int) -> None:
    for _ in range(count // 1000 or 1):
        await store.write(lambda tx: addresses.acquire_addresses(tx, CIDR, min(count, 1000)))


async def _cut(store: Store, count: int) -> None:
    for _ in range(count // 100):

        async def some(tx: Transaction) -> None:
            for _ in range(100):
                await prefixes.acquire_child(tx, PARENT, 26)

        await store.write(some)


async def _flatness(
    work: Callable[[], Awaitable[None]], fill: Callable[[int], Awaitable[None]]
) -> float:
    """Return how many times longer one takes when there are many than when there are few."""
    await fill(FEW)
    few_s = await _median_s(work)
    await fill(MANY - FEW)
    return await _median_s(work) / few_s


async def _median_s(work: Callable[[], Awaitable[None]]) -> float:
    durations: list[float] = []
    for _ in range(501):
        began_s = time.perf_counter()
        await work()
        durations.append(time.perf_counter() - began_s)
    return sorted(durations)[len(durations) // 2]


async def _rate(work: Callable[[], Awaitable[None]], clients: int) -> float:
    """Return how often per second the clients, together, did it."""
    count = 0
    began_s = time.perf_counter()

    async def client() -> None:
        nonlocal count
        while time.perf_counter() - began_s < SECONDS and count < COUNT_MAX:
            count += 1
            await work()

    await asyncio.gather(*(client() for _ in range(clients)))
    return count / (time.perf_counter() - began_s)
