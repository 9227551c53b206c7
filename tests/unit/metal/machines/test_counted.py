# SPDX-License-Identifier: Apache-2.0
"""A machine that is only counted says the same as one that is read whole."""

import asyncio

import pytest

from metropolis.metal.model.counted import COUNTED_MACHINES
from metropolis.metal.model.machine import MACHINES
from unit.metal.machines.fleet import fleet


def test_a_counted_machine_is_the_stored_one() -> None:
    async def scenario() -> None:
        async with fleet() as site:
            ids = {await site.boot(0), await site.boot(1)}
            await site.allocate()
            store = site.world.store
            whole = await store.read(lambda reader: reader.find(MACHINES, {"size": "medium"}))
            counted = await store.read(
                lambda reader: reader.find(COUNTED_MACHINES, {"size": "medium"})
            )
            assert {each.id for each in counted} == ids
            assert sum(each.value.candidate for each in counted) == 1
            for one, other in zip(whole, counted, strict=True):
                machine, few = one.value, other.value
                assert (few.id, few.partition_id, few.size_id, few.candidate) == (
                    machine.id,
                    machine.partition_id,
                    machine.size_id,
                    machine.candidate,
                )
                assert (few.allocation is None) is (machine.allocation is None)
                if few.allocation is not None and machine.allocation is not None:
                    assert few.allocation.project_id == machine.allocation.project_id
                    assert few.allocation.role == machine.allocation.role
                    asns = [each.asn for each in few.allocation.networks]
                    assert asns == [each.asn for each in machine.allocation.networks]
            with pytest.raises(AssertionError, match="written whole"):
                await store.write(
                    lambda tx: tx.replace(counted[0], counted[0].value),
                )

    asyncio.run(scenario())
