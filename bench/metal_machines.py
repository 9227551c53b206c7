# SPDX-License-Identifier: Apache-2.0
"""Machines of Metal, below HTTP: allocating one of 10,000, hearing from 10,000 every minute.

Every transaction is durable. Processor time is this process's; PostgreSQL's own is not in it, so
that figure is measured on SQLite, where there is nobody else.
"""

import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from metropolis.host.sim.entropy import SimEntropy
from metropolis.metal.model.event import EVENTS, Event
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.machine_request import EventReport
from metropolis.metal.rules.allocation import parse_allocation
from metropolis.metal.rules.provisioning import new_container, step
from metropolis.metal.services.allocation import allocate, draw
from metropolis.metal.services.events import receive_events
from metropolis.metal.services.freeing import free
from metropolis.metal.services.liveliness import judge_liveliness
from metropolis.metal.services.machines import empty_machine
from metropolis.metal.store import Transaction

Measurement = tuple[float, str, float | None]  # value, unit, target

TESTS = Path(__file__).resolve().parent.parent / "tests"
FEW, MANY = 100, 10_000
TRIES = 200
EVENTS_TRIED = 3_000
PER_RACK = 20
BOOT = (Event.PXE_BOOTING, Event.PREPARING, Event.REGISTERING, Event.WAITING)


def measure() -> dict[str, Measurement]:
    """Return name -> (value, unit, target)."""
    sys.path.insert(0, str(TESTS))
    from kits.postgres import PostgresServer  # noqa: PLC0415  # after the path is known

    figures: dict[str, Measurement] = {}
    server = PostgresServer(durable=True)
    try:
        figures |= uvloop.run(_run("postgres", server.url(server.new_database())))
    finally:
        server.stop()
    with tempfile.TemporaryDirectory() as directory:
        figures |= uvloop.run(_run("sqlite", f"{directory}/bench.db"))
    return figures


async def _run(name: str, url: str) -> dict[str, Measurement]:
    from unit.metal.machines.fleet import fleet  # noqa: PLC0415  # after the path is known
    from unit.metal.machines.requests import allocation_request  # noqa: PLC0415

    figures: dict[str, Measurement] = {}
    async with fleet(url=url) as site:
        store, entropy = site.world.store, SimEntropy(1)
        spec = parse_allocation(allocation_request(site), "machine")

        async def take_and_give_back() -> tuple[float, float]:
            luck = draw(entropy)
            began_s = time.perf_counter()
            machine = await store.write(lambda tx: allocate(tx, spec, creator="me", luck=luck))
            taken_s = time.perf_counter()
            await store.write(lambda tx: free(tx, machine.id))
            freed_s = time.perf_counter()
            await store.write(lambda tx: _offer(tx, machine.id))
            return taken_s - began_s, freed_s - taken_s

        async def hear(number: int) -> None:
            told = {_name(number): EventReport(event=Event.ALIVE.value)}
            await receive_events(store, told)

        await _fill(store.write, site, 0, FEW)
        few = [await take_and_give_back() for _ in range(TRIES)]
        few_heard_s = await _heard_s(hear, FEW)
        await _fill(store.write, site, FEW, MANY)
        many = [await take_and_give_back() for _ in range(TRIES)]
        began_s = time.process_time()
        many_heard_s = await _heard_s(hear, MANY)
        used_s = time.process_time() - began_s
        taken_s = sorted(taken for taken, _ in many)
        figures[f"{name} allocate one of 10,000, median"] = (_middle(taken_s) * 1e3, "ms", None)
        figures[f"{name} allocate one of 10,000, p99"] = (
            taken_s[len(taken_s) * 99 // 100] * 1e3,
            "ms",
            50,
        )
        for label, before, after in (
            ("allocate", [each[0] for each in few], taken_s),
            ("free", [each[1] for each in few], [each[1] for each in many]),
            ("event", few_heard_s, many_heard_s),
        ):
            ratio = _middle(after) / _middle(before)
            figures[f"{name} {label}, 10,000 to 100 machines"] = (ratio, "times", 1.5)
        if name == "sqlite":
            began_s = time.process_time()
            await judge_liveliness(store, now=site.clock.wall())
            judged_s = time.process_time() - began_s
            share = (used_s / EVENTS_TRIED * MANY + judged_s) / 60
            figures["10,000 machines heard and judged every minute"] = (
                share * 100,
                "% of a core",
                30,
            )
    return figures


def _name(number: int) -> str:
    return f"10000000-0000-0000-0000-{number:012d}"


async def _heard_s(hear: Callable[[int], Awaitable[None]], machines: int) -> list[float]:
    durations: list[float] = []
    for turn in range(EVENTS_TRIED):
        began_s = time.perf_counter()
        await hear(turn * 7 % machines)
        durations.append(time.perf_counter() - began_s)
    return durations


def _middle(durations: list[float]) -> float:
    return sorted(durations)[len(durations) // 2]


async def _offer(tx: Transaction, machine_id: str) -> None:
    """Let a machine wait again, alive."""
    machine = await tx.get(MACHINES, machine_id)
    await tx.replace(machine, msgspec.structs.replace(machine.value, waiting=True))


async def _fill(write: Any, site: Any, start: int, stop: int) -> None:  # noqa: ANN401  # of the kit
    """Add machines that wait, in racks of their own."""
    described = site.described(0)

    async def some(tx: Transaction, first: int, last: int) -> None:
        for number in range(first, last):
            machine_id = _name(number)
            nics = tuple(
                msgspec.structs.replace(nic, mac=f"0e:{number:08x}:{index}", neighbors=())
                for index, nic in enumerate(described.hardware.nics)
            )
            machine = msgspec.structs.replace(
                empty_machine(machine_id, partition_id="muc", now=tx.now),
                size_id="medium",
                rack_id=f"rack-{number // PER_RACK}",
                waiting=True,
                hardware=msgspec.structs.replace(described.hardware, nics=nics),
            )
            await tx.insert(MACHINES, machine_id, machine)
            container = new_container(machine_id)
            for event in BOOT:
                container, _ = step(container, event, now=tx.now)
            await tx.insert(EVENTS, machine_id, container)

    for first in range(start, stop, 500):
        last = min(first + 500, stop)
        await write(lambda tx, first=first, last=last: some(tx, first, last))
