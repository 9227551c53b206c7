# SPDX-License-Identifier: Apache-2.0
"""What is remembered is good for one revision."""

import asyncio

import msgspec

from metropolis.metal.store import Kind, Reader
from metropolis.metal.store.memory import Memory
from unit.metal.kit import memory_store


class Size(msgspec.Struct, kw_only=True, frozen=True):
    cores: int


SIZES = Kind(name="size", type=Size)


def test_a_value_is_made_once_for_each_revision() -> None:
    made: list[int] = []

    async def cores(reader: Reader) -> int:
        made.append((await reader.get(SIZES, "small")).value.cores)
        return made[-1]

    async def scenario() -> None:
        memory = Memory()
        async with memory_store() as store:

            async def wanted(reader: Reader) -> int:
                return await memory.recall(cores, reader, await reader.revision(SIZES))

            await store.write(lambda tx: tx.insert(SIZES, "small", Size(cores=1)))
            assert [await store.read(wanted) for _ in range(3)] == [1, 1, 1]
            assert memory.known(cores, 1) == 1
            small = await store.read(lambda reader: reader.get(SIZES, "small"))
            await store.write(lambda tx: tx.replace(small, Size(cores=2)))
            assert memory.known(cores, 2) is None
            assert [await store.read(wanted) for _ in range(3)] == [2, 2, 2]

    asyncio.run(scenario())
    assert made == [1, 2]
