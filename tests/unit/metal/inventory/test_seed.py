# SPDX-License-Identifier: Apache-2.0
"""The small data centre that a new control plane can be filled with."""

import asyncio

from metropolis.host.sim.entropy import SimEntropy
from metropolis.metal.model.image import IMAGES
from metropolis.metal.model.ip import IPS
from metropolis.metal.model.layout import LAYOUTS
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.network import NETWORKS
from metropolis.metal.model.partition import PARTITIONS, PartitionCapacityRequest
from metropolis.metal.model.size import SIZES
from metropolis.metal.model.switch import SWITCHES
from metropolis.metal.seed import SMALL, seed
from metropolis.metal.services.capacity import count_capacity
from metropolis.metal.services.images import resolve
from metropolis.metal.services.layouts import choose
from metropolis.metal.settings import Settings
from metropolis.metal.site import Site
from metropolis.metal.store import Reader
from unit.metal.kit import NOW, StillClock, memory_store


def test_a_seeded_site_has_machines_to_allocate_with_everything_they_need() -> None:
    async def scenario() -> None:
        clock = StillClock()
        async with memory_store(clock) as store:
            site = Site(store=store, clock=clock, entropy=SimEntropy(1), settings=Settings())
            await seed(site)
            (partition,) = await count_capacity(store, PartitionCapacityRequest(), now=NOW)
            (row,) = partition.servers
            assert (row.size, row.total, row.allocatable, row.free) == (SMALL, 5, 5, 4)
            image = await store.read(lambda reader: resolve(reader, "ubuntu-24.04"))
            layout = await store.read(lambda reader: choose(reader, SMALL, image))
            assert (image.id, layout.id) == ("ubuntu-24.04.20261110", "default-sata")

    asyncio.run(scenario())


def test_seeding_twice_is_seeding_once() -> None:
    async def scenario() -> None:
        clock = StillClock()
        async with memory_store(clock) as store:
            site = Site(store=store, clock=clock, entropy=SimEntropy(1), settings=Settings())
            await seed(site)
            revision = await store.read(lambda reader: reader.revision())
            await seed(site)
            assert await store.read(lambda reader: reader.revision()) == revision
            assert await store.read(_emptiest) > 0

    asyncio.run(scenario())


async def _emptiest(reader: Reader) -> int:
    kinds = (PARTITIONS, SIZES, IMAGES, LAYOUTS, NETWORKS, IPS, SWITCHES, MACHINES)
    return min([await reader.count(kind) for kind in kinds])
