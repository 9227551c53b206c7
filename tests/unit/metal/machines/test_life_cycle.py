# SPDX-License-Identifier: Apache-2.0
"""Machines from their first sign of life until they are somebody's, and back."""

import asyncio

from metropolis.metal.model.event import Event
from unit.metal.machines.fleet import UBUNTU_NEW, fleet


def test_a_machine_boots_is_allocated_installs_phones_home_and_is_freed_without_a_leak() -> None:
    async def scenario() -> None:
        async with fleet() as site:
            before = await site.world.leaks()
            machine_id = await site.boot(0)
            answer = await site.allocate()
            assert answer["id"] == machine_id
            assert answer["allocation"]["image"]["id"] == UBUNTU_NEW
            assert answer["allocation"]["succeeded"] is False
            assert await site.wait(machine_id), "whoever waits is told"
            await site.install(machine_id)
            found = await site.world.ok("GET", f"/v1/machine/{machine_id}")
            assert found["allocation"]["succeeded"] is True
            assert found["allocation"]["boot_info"]["image_id"] == UBUNTU_NEW
            assert found["events"]["log"][0]["event"] == "Phoned Home"
            assert found["liveliness"] == "Alive"
            assert found["size"]["id"] == "medium"
            assert found["partition"]["id"] == "muc"
            freed = await site.free(machine_id)
            assert freed.get("allocation") is None
            assert freed["tags"] == []
            assert (await site.events(machine_id)).newest is Event.MACHINE_RECLAIM
            assert await site.world.leaks() == before == []

    asyncio.run(scenario())
