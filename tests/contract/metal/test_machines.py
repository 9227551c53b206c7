# SPDX-License-Identifier: Apache-2.0
"""Machines on both databases: many at once, and a crash at every step, and nothing is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

from metropolis.base.errors import AbortedError
from metropolis.host.sim.entropy import SimEntropy
from metropolis.metal.model.event import Event
from metropolis.metal.model.machine_request import EventReport, MachineReinstallRequest
from metropolis.metal.rules.allocation import parse_allocation
from metropolis.metal.services.allocation import allocate, draw
from metropolis.metal.services.events import receive_events
from metropolis.metal.services.freeing import free, reinstall
from metropolis.metal.services.pools import (
    available_by_rack,
    count_by_rack,
    count_tagged_by_rack,
)
from metropolis.metal.services.registration import register
from metropolis.metal.services.reports import InstallReport, report
from metropolis.metal.store import Transaction
from unit.metal.machines.fleet import UBUNTU, Fleet, fleet, uuid_of
from unit.metal.machines.requests import allocation_request

STEPS_MAX = 400


class CrashError(Exception):
    """The replica is gone."""


class Crashing:
    """A transaction that lets only so many of its calls happen."""

    def __init__(self, tx: Transaction, steps: int) -> None:
        self._tx = tx
        self._left = steps

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._tx, name)
        if not callable(found):
            return found

        async def call(*args: Any, **more: Any) -> Any:
            if self._left == 0:
                raise CrashError
            self._left -= 1
            return await found(*args, **more)

        return call


async def crash_everywhere(site: Fleet, change: Callable[[Transaction], Awaitable[object]]) -> int:
    """Do something, crashing at each of its steps before; return how many it has."""
    store = site.world.store
    before = await store.read(lambda reader: reader.revision())
    for steps in range(STEPS_MAX):

        async def body(tx: Transaction, steps: int = steps) -> None:
            await change(cast("Transaction", Crashing(tx, steps)))

        try:
            await store.write(body)
        except CrashError:
            assert await store.read(lambda reader: reader.revision()) == before, steps
        else:
            return steps
    raise AssertionError("it never ends")


def test_a_crash_at_any_step_of_a_life_leaves_what_was_before(store_url: str) -> None:
    async def scenario() -> None:
        async with fleet(url=store_url) as site:
            described, machine_id = site.described(0), uuid_of(0)
            assert await crash_everywhere(site, lambda tx: register(tx, described)) > 5
            await site.wait(machine_id)
            spec = parse_allocation(allocation_request(site), "machine")
            luck = draw(SimEntropy(3))
            steps = await crash_everywhere(
                site, lambda tx: allocate(tx, spec, creator="me", luck=luck)
            )
            assert steps > 20
            assert await site.world.leaks() == []
            done = InstallReport(machine_id=machine_id, success=True)
            assert await crash_everywhere(site, lambda tx: report(tx, done)) > 3
            again = MachineReinstallRequest(id=machine_id, image_id=UBUNTU)
            assert await crash_everywhere(site, lambda tx: reinstall(tx, again)) > 5
            assert await crash_everywhere(site, lambda tx: free(tx, machine_id)) > 10
            assert await site.world.leaks() == []
            assert (await site.machine(machine_id)).allocation is None

    asyncio.run(scenario())


def test_of_many_who_ask_at_once_each_machine_goes_to_one(store_url: str) -> None:
    async def scenario() -> None:
        async with fleet(url=store_url, racks=3) as site:
            for number in range(6):
                await site.boot(number)
            body = site.request()
            calls = (site.world.client.post("/v1/machine/allocate", body) for _ in range(10))
            answers = await asyncio.gather(*calls)
            given = [each.json["id"] for each in answers if each.status == 200]
            assert sorted(given) == [uuid_of(number) for number in range(6)]
            assert {each.status for each in answers if each.status != 200} == {422}
            assert await site.world.leaks() == []
            freed = await asyncio.gather(
                *(site.world.client.delete(f"/v1/machine/{each}/free") for each in given)
            )
            assert {each.status for each in freed} == {200}
            assert await site.world.leaks() == []

    asyncio.run(scenario())


def test_events_beside_a_free_stop_neither(store_url: str) -> None:
    async def scenario() -> None:
        async with fleet(url=store_url) as site:
            machine_id = await site.boot(0)
            await site.allocate()
            told = {machine_id: EventReport(event=Event.ALIVE.value)}
            results = await asyncio.gather(
                *(receive_events(site.world.store, told) for _ in range(10)),
                site.free(machine_id),
                *(receive_events(site.world.store, told) for _ in range(10)),
                return_exceptions=True,
            )
            lost = [each for each in results if isinstance(each, BaseException)]
            assert all(isinstance(each, AbortedError) for each in lost)
            assert len(lost) <= 2, "a race is tried again"
            assert (await site.machine(machine_id)).allocation is None
            assert (await site.events(machine_id)).newest is Event.MACHINE_RECLAIM

    asyncio.run(scenario())


def test_racks_are_counted_by_the_database(store_url: str) -> None:
    async def scenario() -> None:
        async with fleet(url=store_url, racks=2) as site:
            for number in range(4):
                await site.boot(number)
            for tag in ("a", "b", "c"):
                await site.allocate(tags=[tag])
            await site.send(uuid_of(0), Event.PLANNED_REBOOT)
            read = site.world.store.read
            left = await read(lambda reader: available_by_rack(reader, "muc", "medium"))
            assert sum(left.values()) == 1
            assert set(left) <= {"rack-1", "rack-2"}
            mine: dict[str, Any] = {"project_id": "red", "partition_id": "muc"}
            counted = await read(partial(count_by_rack, **mine, role="machine"))
            assert sum(counted.values()) == 3
            for tags, count in ((["a"], 1), (["a", "b"], 2), ([], 0), (["x" * 2000], 0)):
                counted = await read(partial(count_tagged_by_rack, **mine, tags=tags))
                assert sum(counted.values()) == count, tags
            assert await read(partial(count_by_rack, **mine, role="firewall")) == {}
            part_of_an_id: dict[str, Any] = {"project_id": "re", "partition_id": "muc"}
            assert await read(partial(count_by_rack, **part_of_an_id, role="machine")) == {}
            await site.silence(301)
            assert await read(lambda reader: available_by_rack(reader, "muc", "medium")) == {}

    asyncio.run(scenario())
