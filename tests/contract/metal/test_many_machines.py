# SPDX-License-Identifier: Apache-2.0
"""Where too many machines wait to be counted, racks and signs of life count all the same."""

import asyncio
from functools import partial

import msgspec

from metropolis.metal.model.event import EVENTS, Event
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.rules.provisioning import new_container, step
from metropolis.metal.services.machines import empty_machine
from metropolis.metal.services.pools import MANY, some_of_many
from metropolis.metal.store import Transaction
from unit.metal.machines.fleet import Fleet, fleet, uuid_of

PER_RACK = 50
COUNT = MANY + PER_RACK
DEAD = range(0, COUNT, 2)


async def fill(site: Fleet) -> None:
    """Let so many machines wait, in racks of fifty; of every second one nothing was heard."""
    hardware = site.described(0).hardware

    async def change(tx: Transaction) -> None:
        for number in range(COUNT):
            machine = msgspec.structs.replace(
                empty_machine(uuid_of(number), partition_id="muc", now=tx.now),
                size_id="medium",
                rack_id=f"rack-{number // PER_RACK}",
                waiting=True,
                hardware=msgspec.structs.replace(hardware, nics=()),
            )
            await tx.insert(MACHINES, uuid_of(number), machine)
            if number not in DEAD:
                container, _ = step(new_container(machine.id), Event.WAITING, now=tx.now)
                await tx.insert(EVENTS, machine.id, container)

    await site.write(change)


async def few(site: Fleet, start: str) -> list[str]:
    look = partial(some_of_many, partition_id="muc", size_id="medium", start=start)
    return await site.world.store.read(look)


def test_each_machine_is_alive_and_in_a_rack_of_its_own(store_url: str) -> None:
    async def scenario() -> None:
        async with fleet(url=store_url) as site:
            await fill(site)
            racks: list[str] = []
            for _ in range(COUNT // PER_RACK):
                machine = (await site.allocate(tags=["a"], placement_tags=["a"]))["id"]
                assert machine not in set(map(uuid_of, DEAD))
                racks.append((await site.machine(machine)).rack_id)
            assert sorted(racks) == sorted(set(racks))

    asyncio.run(scenario())


def test_a_few_are_looked_at_from_anywhere_and_none_of_a_small_pool(store_url: str) -> None:
    async def scenario() -> None:
        async with fleet(url=store_url) as site:
            assert await few(site, "") == []
            await fill(site)
            for start, first in ((uuid_of(0), 0), (uuid_of(90), 90), ("f", 0)):
                assert await few(site, start) == [uuid_of(first + more) for more in range(8)]

    asyncio.run(scenario())
