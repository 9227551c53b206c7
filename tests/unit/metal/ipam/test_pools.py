# SPDX-License-Identifier: Apache-2.0
"""Pools of integers, on either database."""

import asyncio

import pytest

from metropolis.base.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from metropolis.metal.ipam import pools
from metropolis.metal.ipam.pools import ASN_BASE, VRF, Pool
from metropolis.metal.store import Store
from unit.metal.kit import opened

SMALL = Pool(name="small", first=1, last=4)


async def take(store: Store, pool: Pool, value: int | None = None, *, shared: bool = False) -> int:
    return await store.write(
        lambda tx: pools.acquire_integer(tx, pool, value, shared=shared), serial=False
    )


async def give(store: Store, pool: Pool, value: int) -> None:
    await store.write(lambda tx: pools.release_integer(tx, pool, value))


def test_integers_are_taken_released_and_used_up(store_url: str) -> None:
    async def scenario() -> None:
        async with opened(store_url) as store:
            assert await take(store, SMALL, 2) == 2
            assert [await take(store, SMALL) for _ in range(3)] == [1, 3, 4]
            with pytest.raises(ResourceExhaustedError):
                await take(store, SMALL)
            with pytest.raises(AlreadyExistsError, match="small 3 is already in use"):
                await take(store, SMALL, 3)
            await give(store, SMALL, 3)
            for never in (3, 77):
                with pytest.raises(NotFoundError):
                    await give(store, SMALL, never)
            assert await take(store, SMALL) == 3
            for outside in (0, 5):
                with pytest.raises(InvalidArgumentError, match="between 1 and 4"):
                    await take(store, SMALL, outside)
            assert await take(store, VRF) == 1, "pools know nothing of each other"

    asyncio.run(scenario())


def test_a_shared_integer_is_free_when_its_last_holder_left(store_url: str) -> None:
    async def scenario() -> None:
        async with opened(store_url) as store:
            first = await take(store, VRF)
            for _ in range(2):
                assert await take(store, VRF, first, shared=True) == first
            for holders in (2, 1):
                await give(store, VRF, first)
                listed = await store.read(lambda reader: pools.list_integers(reader, VRF))
                assert listed == {first: holders}
                assert await take(store, VRF) != first
                await give(store, VRF, first + 1)
            await give(store, VRF, first)
            assert await take(store, VRF, first) == first

    asyncio.run(scenario())


def test_as_numbers_are_private_ones_of_32_bits(store_url: str) -> None:
    async def scenario() -> None:
        async with opened(store_url) as store:
            asn = await store.write(pools.acquire_asn)
            assert asn == ASN_BASE + 1 == 4_210_000_001
            await store.write(lambda tx: pools.release_asn(tx, asn))
            assert await store.write(pools.acquire_asn) == asn

    asyncio.run(scenario())


def test_thirty_two_clients_never_get_the_same_integer(store_url: str) -> None:
    async def scenario() -> None:
        async with opened(store_url) as store:
            held: list[int] = []

            async def client(number: int) -> None:
                for turn in range(6):
                    value = await take(store, VRF)
                    assert value not in held
                    held.append(value)
                    if (turn + number) % 3 == 0:
                        held.remove(value)
                        await give(store, VRF, value)

            await asyncio.gather(*(client(number) for number in range(32)))
            listed = await store.read(lambda reader: pools.list_integers(reader, VRF))
            assert listed == dict.fromkeys(sorted(held), 1)
            assert max(held) <= 32 * 6

    asyncio.run(scenario())
