# SPDX-License-Identifier: Apache-2.0
"""A certificate of one partition speaks for no machine of another one."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from contract.metal.boots import Boots, call_wait, described
from kits.metal_grpc import calling, partition_server
from kits.mutual_tls import Authority
from metropolis.api import metal_boot_pb2 as pb
from metropolis.api.rpc_metal_boot import BootService, EventService
from metropolis.base.errors import InvalidArgumentError, PermissionDeniedError
from metropolis.metal.model.machine import MACHINES, Machine
from metropolis.metal.model.partition import PARTITIONS, Partition
from metropolis.rpc.channel import Channel
from unit.metal.machines.fleet import fleet, uuid_of

THEIRS, OURS = uuid_of(0), uuid_of(1)
Scenario = Callable[[Boots, Channel], Awaitable[None]]


def play(directory: Path, scenario: Scenario, *, unit: str = "other") -> None:
    """Call with the certificate of a unit, beside a machine that waits in partition `muc`."""

    async def whole() -> None:
        authority = Authority(directory)
        async with fleet() as ready:
            site = ready.world.client.site
            await site.store.write(lambda tx: tx.insert(PARTITIONS, "other", Partition()))
            async with (
                partition_server(site, authority) as endpoint,
                calling(endpoint, authority.issue("machine")) as machines,
                calling(endpoint, authority.issue("agent", unit=unit)) as channel,
            ):
                boots = Boots(ready, site, machines)
                await boots.ready(0)
                await scenario(boots, channel)

    asyncio.run(whole())


async def call_all(channel: Channel) -> list[Callable[[], Awaitable[object]]]:
    """Every call about a machine or a partition."""
    call = channel.call
    elsewhere = described(0)
    elsewhere.partition_id = "other"
    return [
        lambda: call(BootService.DHCP, pb.BootServiceDhcpRequest(uuid=THEIRS)),
        lambda: call(BootService.BOOT, pb.BootServiceBootRequest(partition_id="muc")),
        lambda: call(BootService.REGISTER, described(0)),
        lambda: call(BootService.REGISTER, described(1)),
        lambda: call(BootService.REGISTER, elsewhere),
        lambda: call(BootService.REPORT, pb.BootServiceReportRequest(uuid=THEIRS, success=True)),
        lambda: call(BootService.ABORT_REINSTALL, pb.BootServiceAbortReinstallRequest(uuid=THEIRS)),
    ]


def test_an_agent_speaks_for_no_machine_of_another_partition(tmp_path: Path) -> None:
    async def scenario(boots: Boots, channel: Channel) -> None:
        async def state() -> tuple[list[Machine], int]:
            found = await boots.site.store.read(lambda reader: reader.find(MACHINES))
            return [each.value for each in found], len((await boots.fleet.events(THEIRS)).log)

        before = await state()
        for attempt in await call_all(channel):
            with pytest.raises(PermissionDeniedError):
                await attempt()
        with pytest.raises(PermissionDeniedError):
            async with call_wait(channel, THEIRS) as wait:
                await wait.receive()
        event = pb.MachineProvisioningEvent(event="Crashing")
        with pytest.raises(InvalidArgumentError, match=THEIRS):
            await channel.call(
                EventService.SEND, pb.EventServiceSendRequest(events={THEIRS: event})
            )
        assert await state() == before

    play(tmp_path, scenario)


def test_of_many_events_those_of_another_partition_fail(tmp_path: Path) -> None:
    async def scenario(_boots: Boots, channel: Channel) -> None:
        event = pb.MachineProvisioningEvent(event="PXE Booting")
        request = pb.EventServiceSendRequest(events={THEIRS: event, OURS: event})
        answer = await channel.call(EventService.SEND, request)
        assert (answer.events, list(answer.failed)) == (1, [THEIRS])

    play(tmp_path, scenario)


@pytest.mark.parametrize("unit", ["muc", "Department of Machines"])
def test_an_agent_speaks_for_its_partition_and_a_department_is_none(
    tmp_path: Path, unit: str
) -> None:
    async def scenario(_boots: Boots, channel: Channel) -> None:
        assert (await channel.call(BootService.REGISTER, described(1))).partition_id == "muc"
        await channel.call(BootService.DHCP, pb.BootServiceDhcpRequest(uuid=THEIRS))

    play(tmp_path, scenario, unit=unit)
