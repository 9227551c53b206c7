# SPDX-License-Identifier: Apache-2.0
"""Machines wait, are allocated, report and are freed, by processes that are killed meanwhile."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.metal.story import REQUEST, Program, allocation, is_in_use, partition, waits


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    made = Program(directory=tmp_path)
    made.start()
    yield made
    made.stop()


def test_a_machine_is_used_and_given_back_though_the_program_is_killed(program: Program) -> None:
    async def story() -> None:
        await program.is_ready()
        async with partition([program], 2):
            await program.until(lambda found: len(found) == 2 and all(map(waits, found.values())))
            used = await program.call("POST", "/v1/machine/allocate", REQUEST)
            program.kill()  # while the machine is told
            program.start()
            found = await program.until(
                lambda found: used["id"] in found and is_in_use(found[used["id"]])
            )
            (other,) = set(found) - {used["id"]}
            held = allocation(found[used["id"]])
            assert held["allocationuuid"] == used["allocation"]["allocationuuid"]
            await program.until_allocatable([other])  # its stream was cut, and is there again

            await program.call("DELETE", f"/v1/machine/{used['id']}/free")
            program.kill()  # before the partition heard of it
            program.start()
            await program.until(lambda found: bool(found) and all(map(waits, found.values())))
            await program.until_allocatable(found)

    asyncio.run(story())


def test_three_replicas_on_one_database_behave_as_one(tmp_path: Path, postgres_url: str) -> None:
    first = Program(directory=tmp_path, database=postgres_url)
    others = [Program(directory=tmp_path, database=postgres_url, seeded=False) for _ in range(2)]
    programs = [first, *others]

    async def story() -> None:
        first.start()
        await first.is_ready()
        for each in others:
            each.start()
        for each in others:
            await each.is_ready()
        async with partition(programs, 3) as machines:
            one, two, three = programs
            at = {each.machine_id: programs[number] for number, each in enumerate(machines)}
            await one.until(lambda found: len(found) == 3 and all(map(waits, found.values())))
            # Each is allocated at another replica than the one at which it waits.
            for machine_id, waiting_at in at.items():
                elsewhere = programs[(programs.index(waiting_at) + 1) % 3]
                body = {**REQUEST, "uuid": machine_id, "name": machine_id, "hostname": "m"}
                await elsewhere.call("POST", "/v1/machine/allocate", body)
            await two.until(lambda found: all(map(is_in_use, found.values())))
            one.kill()
            for machine_id in at:
                await three.call("DELETE", f"/v1/machine/{machine_id}/free")
            rest = [key for key, program in at.items() if program is not one]
            await two.until(lambda found: all(waits(found[key]) for key in rest))
            one.start()
            await three.until(lambda found: all(map(waits, found.values())))
            await two.until_allocatable(at)

    try:
        asyncio.run(story())
    finally:
        for each in programs:
            each.stop()
