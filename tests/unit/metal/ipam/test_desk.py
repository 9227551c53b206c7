# SPDX-License-Identifier: Apache-2.0
"""Addresses for many callers at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

import pytest

from metropolis.base.errors import (
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from metropolis.host.sim.entropy import SimEntropy
from metropolis.metal.ipam import addresses, prefixes
from metropolis.metal.ipam.desk import open_desk
from metropolis.metal.store import Store, Transaction
from unit.metal.kit import memory_store, opened

ResultT = TypeVar("ResultT")
CIDR = "10.0.0.0/24"


class Gate:
    """A store whose transactions wait at a gate; counts them."""

    def __init__(self, store: Store) -> None:
        self.opened = asyncio.Event()
        self.opened.set()
        self.entered = asyncio.Event()  # while it was closed
        self.transactions = 0
        self.dialect = store.dialect
        self._store = store

    async def write(
        self, change: Callable[[Transaction], Awaitable[ResultT]], *, serial: bool = True
    ) -> ResultT:
        self.transactions += 1
        result = await self._store.write(change, serial=serial)
        if not self.opened.is_set():
            self.entered.set()
        await self.opened.wait()
        return result


async def taken(store: Store) -> set[str]:
    listed = await store.read(lambda reader: addresses.list_addresses(reader, CIDR))
    return {each.address for each in listed}


def test_all_who_wait_share_one_transaction() -> None:
    async def scenario() -> None:
        async with memory_store() as store:
            await store.write(lambda tx: prefixes.create_prefix(tx, CIDR))
            gate = Gate(store)
            async with open_desk(cast("Store", gate), SimEntropy(1)) as desk:
                got = await asyncio.gather(*(desk.acquire(CIDR) for _ in range(40)))
                assert gate.transactions == 1
                assert len({each.address for each in got}) == 40
                gate.opened.clear()
                first = asyncio.ensure_future(desk.acquire(CIDR))
                await gate.entered.wait()
                late = asyncio.gather(*(desk.acquire(CIDR) for _ in range(100)))
                await asyncio.sleep(0)
                gate.opened.set()
                everybody = {each.address for each in [*got, await first, *await late]}
                assert len(everybody) == 141
                assert gate.transactions == 4, "64 and 36 of those who came late"

    asyncio.run(scenario())


def test_when_too_few_are_left_some_get_one(store_url: str) -> None:
    async def scenario() -> None:
        async with opened(store_url) as store, open_desk(store, SimEntropy(1)) as desk:
            await store.write(lambda tx: prefixes.create_prefix(tx, CIDR))
            await store.write(lambda tx: addresses.acquire_addresses(tx, CIDR, 250))
            results = await asyncio.gather(
                *(desk.acquire(CIDR) for _ in range(20)), return_exceptions=True
            )
            got = {each.address for each in results if not isinstance(each, BaseException)}
            assert len(got) == 4
            assert sum(isinstance(each, ResourceExhaustedError) for each in results) == 16
            for wrong, kind in (
                (CIDR, ResourceExhaustedError),
                ("11.0.0.0/8", NotFoundError),
                ("x", InvalidArgumentError),
            ):
                with pytest.raises(kind):
                    await desk.acquire(wrong)

    asyncio.run(scenario())


@pytest.mark.parametrize("moment", range(12))
def test_who_goes_away_keeps_nobody_waiting_and_nothing(moment: int) -> None:
    """Some of ten callers are cancelled, at every step of the others' way."""

    async def scenario() -> None:
        async with memory_store() as store:
            await store.write(lambda tx: prefixes.create_prefix(tx, CIDR))
            async with open_desk(cast("Store", Gate(store)), SimEntropy(1)) as desk:
                callers = [asyncio.ensure_future(desk.acquire(CIDR)) for _ in range(10)]
                for _ in range(moment):
                    await asyncio.sleep(0)
                for number in (0, 3, 4, 9):
                    callers[number].cancel()
                results = await asyncio.gather(*callers, return_exceptions=True)
                got = [each.address for each in results if not isinstance(each, BaseException)]
                assert len(got) >= 6
                last = await desk.acquire(CIDR)  # after it nothing is on its way any more
                assert await taken(store) == {*got, last.address}

    asyncio.run(scenario())


def test_who_waits_when_the_desk_closes_is_told() -> None:
    async def scenario() -> None:
        async with memory_store() as store:
            await store.write(lambda tx: prefixes.create_prefix(tx, CIDR))
            gate = Gate(store)
            gate.opened.clear()
            async with open_desk(cast("Store", gate), SimEntropy(1)) as desk:
                caller = asyncio.ensure_future(desk.acquire(CIDR))
                await gate.entered.wait()
            with pytest.raises(asyncio.CancelledError):
                await caller

    asyncio.run(scenario())
