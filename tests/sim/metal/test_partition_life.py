# SPDX-License-Identifier: Apache-2.0
"""Machines live and are used while everything around them breaks; then all is well again."""

import asyncio
from typing import Any

import pytest

from metropolis.metal.model.machine import MACHINES
from metropolis.metal.simulated.machine import Character
from metropolis.sim import simulate
from sim.metal.world import IMAGES, World, allocation_request, decode, live

SEEDS = range(50)
CALM = Character(step_s=5.0)
BOUNDARIES_MAX = 12  # of one call: salts, two records of the audit, the change itself
STEPS = 14


async def disturb(world: World) -> None:
    """Break one thing."""
    chance = world.chance
    what = chance.randrange(5)
    machine = chance.choice(world.machines)
    if what == 0:
        machine.switch_off()
    elif what == 1:
        machine.switch_on()
    elif what == 2:
        chance.choice(world.replicas).crash()
    elif what == 3:
        for channel in world.channels:
            channel.loss = chance.choice([0.0, 0.05, 0.3])
    else:
        machine.reset()


async def use(world: World, number: int) -> None:
    """Do what people do, each time perhaps with a crash in the middle."""
    chance = world.chance
    crash_at = chance.randrange(BOUNDARIES_MAX) if chance.random() < 0.5 else None
    ours = [each for each, _ in await world.all()]
    held = [each.id for each in ours if each.allocation is not None]
    what = chance.randrange(6)
    if what <= 2 or not held:
        body = allocation_request(number)
        await world.call("POST", "/v1/machine/allocate", body, crash_at=crash_at)
    elif what == 3:
        path = f"/v1/machine/{chance.choice(held)}/free"
        await world.call("DELETE", path, crash_at=crash_at)
    elif what == 4:
        key = chance.choice(held)
        body = {"id": key, "imageid": chance.choice(IMAGES)}
        await world.call("POST", f"/v1/machine/{key}/reinstall", body, crash_at=crash_at)
    else:
        order = chance.choice(["reset", "off", "on", "cycle"])
        path = f"/v1/machine/{chance.choice(ours).id}/power/{order}"
        await world.call("POST", path, {}, crash_at=crash_at)
    await world.check_books()
    await world.check_reasons()


async def settle(world: World) -> None:
    """Give everything its power and its quiet; wait until all machines are where they belong."""
    for channel in world.channels:
        channel.loss = 0.0
    for machine in world.machines:
        machine.character = CALM
        machine.switch_on()
    for _ in range(60 * 4):  # 4 h: whoever was found dead is reset after one
        await asyncio.sleep(60)
        for machine in world.machines:
            machine.switch_on()
        if len(await world.all()) == len(world.machines) and not await world.unsettled():
            break
    assert await world.unsettled() == []
    await world.check_books()


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_breaks_nothing_is_lost_and_all_ends_well(seed: int) -> None:
    async def story(world: World) -> None:
        for channel in world.channels:
            channel.loss = 0.05
        for number in range(STEPS):
            await asyncio.sleep(world.chance.uniform(1, 120))
            await use(world, number)
            if world.chance.random() < 0.6:
                await disturb(world)
        await settle(world)
        for machine, _ in await world.all():
            if machine.allocation is not None:
                answer = await world.call("DELETE", f"/v1/machine/{machine.id}/free")
                assert answer.status == 200
        await asyncio.sleep(1)
        await settle(world)
        assert all(each.allocation is None for each, _ in await world.all())

    simulate(lambda: live(seed, story), seed=seed)


@pytest.mark.parametrize("operation", ["allocate", "free"])
def test_a_call_that_ends_at_any_boundary_was_made_or_was_not(operation: str) -> None:
    """Each boundary of transactions in turn, until one is beyond the end of the call."""

    async def story(world: World) -> None:
        await settle(world)
        for boundary in range(40):
            await settle(world)
            if operation == "free":
                answer = await world.call("POST", "/v1/machine/allocate", allocation_request(0))
                machine_id = decode(answer)["id"]
                call: tuple[str, str, Any] = "DELETE", f"/v1/machine/{machine_id}/free", None
            else:
                call = "POST", "/v1/machine/allocate", allocation_request(0)
            answer = await world.call(*call, crash_at=boundary)
            await world.check_books()
            for machine, _ in await world.all():
                if machine.allocation is not None:
                    await world.call("DELETE", f"/v1/machine/{machine.id}/free")
            if answer is not None:
                assert answer.status == 200
                assert boundary > 3
                return
        raise AssertionError("the call never ended")

    simulate(lambda: live(1, story, machines=2), seed=1)


def test_every_machine_is_known_by_what_it_said() -> None:
    async def story(world: World) -> None:
        await settle(world)
        for machine in world.machines:
            found = await world.store.read(
                lambda reader, key=machine.machine_id: reader.get(MACHINES, key)  # type: ignore[misc]
            )
            assert found.value.rack_id in {"rack-1", "rack-2"}
            assert found.value.size_id == "c1-large-x86"

    simulate(lambda: live(7, story), seed=7)
