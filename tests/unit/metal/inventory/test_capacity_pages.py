# SPDX-License-Identifier: Apache-2.0
"""Counting more machines than are looked at at once."""

import asyncio
from uuid import UUID

import msgspec

from metropolis.host.sim.entropy import SimEntropy
from metropolis.metal.model.event import EVENTS
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.partition import PartitionCapacityRequest
from metropolis.metal.seed import seed
from metropolis.metal.services.capacity import PAGE, count_capacity
from metropolis.metal.settings import Settings
from metropolis.metal.site import Site
from metropolis.metal.store import Transaction
from unit.metal.inventory.site import MACHINE
from unit.metal.kit import NOW, StillClock, memory_store

MORE = 2 * PAGE


async def _multiply(tx: Transaction) -> None:
    machine = await tx.get(MACHINES, MACHINE)
    events = await tx.get(EVENTS, MACHINE)
    for number in range(MORE):
        copy = str(UUID(int=1 << 100 | number))
        await tx.insert(MACHINES, copy, msgspec.structs.replace(machine.value, id=copy))
        await tx.insert(EVENTS, copy, msgspec.structs.replace(events.value, id=copy))


def test_every_machine_is_counted_once_and_others_get_their_turn() -> None:
    async def scenario() -> None:
        clock = StillClock()
        async with memory_store(clock) as store:
            await seed(Site(store=store, clock=clock, entropy=SimEntropy(1), settings=Settings()))
            await store.write(_multiply)
            turns = 0

            async def others() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            async with asyncio.TaskGroup() as group:
                other = group.create_task(others())
                (counted,) = await count_capacity(store, PartitionCapacityRequest(), now=NOW)
                other.cancel()
            (row,) = counted.servers
            assert (row.total, row.waiting, row.allocatable) == (MORE + 5,) * 3
            assert turns > MORE / PAGE

    asyncio.run(scenario())
