# SPDX-License-Identifier: Apache-2.0
"""What a machine says of itself when it registers, and what it cannot say."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import pytest

from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    MetropolisError,
    NotFoundError,
)
from metropolis.metal.model.event import EVENTS, Event
from metropolis.metal.model.hardware import Disk
from metropolis.metal.model.ipmi import IPMIS, Fru
from metropolis.metal.model.machine_request import EventReport
from metropolis.metal.services.events import receive_events
from metropolis.metal.services.registration import Registration, ReportedBmc, register
from metropolis.metal.services.reports import InstallReport, report
from metropolis.metal.services.waiting import is_allocated, start_waiting, stop_waiting
from unit.metal.machines.fleet import GIB, Fleet, fleet, uuid_of


def run(scenario: Callable[[Fleet], Awaitable[None]]) -> None:
    async def main() -> None:
        async with fleet() as site:
            await scenario(site)

    asyncio.run(main())


def with_hardware(registration: Registration, **more: Any) -> Registration:
    return replace(registration, hardware=msgspec.structs.replace(registration.hardware, **more))


def with_bmc(registration: Registration, **more: Any) -> Registration:
    return replace(registration, bmc=replace(registration.bmc, **more))


def test_a_registration_tells_size_rack_and_bmc_and_begins_to_keep_events() -> None:
    async def scenario(site: Fleet) -> None:
        described = site.described(0)
        await site.write(lambda tx: register(tx, described))
        machine = await site.machine(uuid_of(0))
        assert (machine.size_id, machine.rack_id, machine.partition_id) == (
            "medium",
            "rack-1",
            "muc",
        )
        assert machine.ledstate.description == "Machine registered"
        assert machine.state.metal_hammer_version == "v0.14"
        assert not machine.waiting
        read = site.world.store.read
        assert (await read(lambda reader: reader.get(EVENTS, uuid_of(0)))).value.log == ()
        bmc = await read(lambda reader: reader.get(IPMIS, uuid_of(0)))
        assert bmc.value.password == "secret"
        assert bmc.value.last_updated == site.clock.wall()

    run(scenario)


def test_hardware_of_no_size_is_registered_and_explained() -> None:
    async def scenario(site: Fleet) -> None:
        odd = with_hardware(site.described(0), disks=(Disk(name="/dev/sda", size_bytes=GIB),))
        await site.write(lambda tx: register(tx, odd))
        answer = await site.world.ok("GET", f"/v1/machine/{uuid_of(0)}")
        assert answer["size"]["id"] == "unknown"
        said = await site.world.ok("GET", f"/v1/machine/{uuid_of(0)}/explain")
        assert "of no size" in said["obstacles"][0]["reason"]

    run(scenario)


@pytest.mark.parametrize(
    ("error", "text", "change"),
    [
        (NotFoundError, "partition", lambda it: replace(it, partition_id="nowhere")),
        (InvalidArgumentError, "machine id", lambda it: replace(it, machine_id="not a machine")),
        (FailedPreconditionError, "", lambda it: with_hardware(it, nics=())),
        (FailedPreconditionError, "aa:00:00:00:01:00", None),
        (FailedPreconditionError, "board_mfg_serial", lambda it: with_bmc(
            it, fru=Fru(board_mfg_serial="B1"))),
    ],
)  # fmt: skip
def test_a_machine_that_cannot_be_is_refused_and_leaves_nothing(
    error: type[MetropolisError],
    text: str,
    change: Callable[[Registration], Registration] | None,
) -> None:
    async def scenario(site: Fleet) -> None:
        await site.boot(1)
        described = site.described(0)
        if change is None:  # the cards of another machine
            described = with_hardware(described, nics=site.described(1).hardware.nics)
        else:
            described = change(described)
        before = await site.world.store.read(lambda reader: reader.revision())
        with pytest.raises(error) as refused:
            await site.write(lambda tx: register(tx, described))
        assert text in str(refused.value)
        assert refused.value.remedy
        assert await site.world.store.read(lambda reader: reader.revision()) == before

    run(scenario)


def test_serial_numbers_that_are_none_may_be_many() -> None:
    async def scenario(site: Fleet) -> None:
        for number in range(2):
            same = with_bmc(
                site.described(number), fru=Fru(board_mfg_serial="To Be Filled By O.E.M.")
            )
            await site.write(partial(register, registration=same))

    run(scenario)


def test_a_machine_that_somebody_has_keeps_its_size_tags_and_partition() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        await site.allocate(tags=["mine"])
        grown = with_hardware(
            site.described(0),
            disks=(Disk(name="/dev/sda", size_bytes=GIB), Disk(name="/dev/sdb", size_bytes=GIB)),
        )
        await site.write(lambda tx: register(tx, grown))
        machine = await site.machine(machine_id)
        assert machine.size_id == "medium"
        assert "mine" in machine.tags
        assert len(machine.hardware.disks) == 2
        moved = replace(site.described(0), partition_id="fra")
        with pytest.raises(FailedPreconditionError, match="allocated in muc"):
            await site.write(lambda tx: register(tx, moved))

    run(scenario)


def test_a_bmc_is_replaced_but_for_what_only_it_knows() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        supplies = [{"status": {"health": "OK", "state": "On"}}]
        reports = {machine_id: {"BMCIp": "192.0.2.200", "PowerSupplies": supplies}}
        await site.world.ok("POST", "/v1/machine/ipmi", {"partitionid": "muc", "reports": reports})
        again = replace(site.described(0), bmc=ReportedBmc(address="192.0.2.50:623"))
        await site.write(lambda tx: register(tx, again))
        found = await site.world.ok("GET", f"/v1/machine/{machine_id}/ipmi")
        assert found["ipmi"]["address"] == "192.0.2.50:623"
        assert found["ipmi"]["user"] == ""
        assert found["ipmi"]["powersupplies"] == supplies

    run(scenario)


def test_waiting_is_a_fact_of_the_database_and_ends_with_the_allocation() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        read = site.world.store.read
        assert not await read(lambda reader: is_allocated(reader, machine_id))
        await site.allocate()
        assert not (await site.machine(machine_id)).waiting
        assert await read(lambda reader: is_allocated(reader, machine_id))
        assert await site.write(lambda tx: start_waiting(tx, machine_id))
        await site.write(lambda tx: stop_waiting(tx, machine_id))
        await site.write(lambda tx: stop_waiting(tx, "gone"))
        with pytest.raises(NotFoundError):
            await site.write(lambda tx: start_waiting(tx, "gone"))

    run(scenario)


def test_a_machine_that_registers_again_does_not_wait_yet() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        assert (await site.machine(machine_id)).candidate
        described = site.described(0)
        await site.write(lambda tx: register(tx, described))
        assert not (await site.machine(machine_id)).candidate

    run(scenario)


def test_a_report_of_a_machine_that_is_nobodys_is_refused() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        done = InstallReport(machine_id=machine_id, success=True, console_password="x")
        assert "password" not in repr(done)
        with pytest.raises(FailedPreconditionError, match="not allocated"):
            await site.write(lambda tx: report(tx, done))

    run(scenario)


def test_of_many_events_those_that_are_none_fail_and_the_others_count() -> None:
    async def scenario(site: Fleet) -> None:
        told = {
            "a": EventReport(event="PXE Booting"),
            "b": EventReport(event="Dancing"),
            "not a machine": EventReport(event="Alive"),
            "c": EventReport(event="Alive"),
        }
        received = await receive_events(site.world.store, told)
        assert received.count == 2
        assert received.failed == ("b", "not a machine")
        assert (await site.events("a")).newest is Event.PXE_BOOTING
        assert (await site.events("c")).newest is None

    run(scenario)


def test_events_of_one_machine_at_the_same_time_are_all_kept() -> None:
    async def scenario(site: Fleet) -> None:
        told = {"m": EventReport(event="Planned Reboot")}
        await asyncio.gather(*(receive_events(site.world.store, told) for _ in range(8)))
        assert len((await site.events("m")).log) == 8

    run(scenario)
