# SPDX-License-Identifier: Apache-2.0
"""Who logs in at a BMC: our user when there is one, else the superuser."""

import asyncio

from metropolis.metal.model.ipmi import MachineIPMI
from metropolis.metal.services.bmc_access import bmc_access
from unit.metal.machines.fleet import fleet, uuid_of


def test_the_superuser_is_for_machines_without_a_user_of_ours() -> None:
    async def scenario() -> None:
        async with fleet() as site:
            await site.boot(0)
            body = {"partitionid": "muc", "reports": {"new": {"BMCIp": "192.0.2.200"}}}
            await site.world.ok("POST", "/v1/machine/ipmi", body)

            async def access(machine_id: str, password: str) -> MachineIPMI | None:
                return await site.world.store.read(
                    lambda reader: bmc_access(reader, machine_id, superuser_password=password)
                )

            mine = await access(uuid_of(0), "super-secret")
            assert mine is not None
            assert (mine.user, mine.password) == ("metal", "secret")
            assert "secret" not in repr(mine)
            new = await access("new", "super-secret")
            assert new is not None
            assert (new.user, new.password) == ("root", "super-secret")
            assert new.address == "192.0.2.200:623"
            without = await access("new", "")
            assert without is not None
            assert (without.user, without.password) == ("", "")
            assert await access("stray", "super-secret") is None

    asyncio.run(scenario())
