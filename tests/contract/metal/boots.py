# SPDX-License-Identifier: Apache-2.0
"""Machines that call over gRPC, for tests."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

from kits.metal_grpc import calling, partition_server
from kits.mutual_tls import Authority
from metropolis.api import metal_boot_pb2 as pb
from metropolis.api.rpc_metal_boot import BootService, EventService
from metropolis.metal.settings import Settings
from metropolis.metal.site import Site
from metropolis.rpc.channel import Channel
from unit.metal.machines.fleet import GIB, Fleet, fleet, uuid_of

ONE = uuid_of(0)


class Boots:
    """A fleet whose machines call over gRPC."""

    def __init__(self, ready: Fleet, site: Site, call: Channel) -> None:
        self.fleet = ready
        self.site = site
        self.channel = call

    async def register(self, number: int = 0, **more: object) -> pb.BootServiceRegisterResponse:
        return await self.channel.call(BootService.REGISTER, described(number, **more))

    async def event(self, event: str, machine_id: str = ONE, message: str = "") -> None:
        told = pb.MachineProvisioningEvent(event=event, message=message)
        request = pb.EventServiceSendRequest(events={machine_id: told})
        await self.channel.call(EventService.SEND, request)

    async def ready(self, number: int = 0) -> None:
        """Boot and register, so that waiting makes it allocatable."""
        for event in ("PXE Booting", "Preparing", "Registering"):
            await self.event(event, uuid_of(number))
        await self.register(number)
        await self.event("Waiting", uuid_of(number))

    async def waiting(self, machine_id: str = ONE) -> bool:
        return (await self.fleet.machine(machine_id)).waiting


def described(number: int = 0, **more: object) -> pb.BootServiceRegisterRequest:
    """What the n-th machine of the first rack says of itself."""
    port = ("Ethernet0", "Ethernet4", "Ethernet8")[number]
    request = pb.BootServiceRegisterRequest(
        uuid=uuid_of(number),
        partition_id="muc",
        metal_hammer_version="v0.14",
        tags=["b", "a", "b"],
        bios=pb.MachineBIOS(version="1", vendor="Acme", date="2026-01-01"),
        hardware=pb.MachineHardware(
            memory=64 * GIB,
            disks=[pb.MachineBlockDevice(name="/dev/sda", size=500 * GIB)],
            cpus=[
                pb.MachineCPU(vendor="Intel", model="Xeon", cores=4, threads=8),
                pb.MachineCPU(vendor="Intel", model="Xeon", cores=4, threads=8),
            ],
            nics=[
                pb.MachineNic(
                    mac=f"AA:00:00:00:{number:02x}:0{index}",
                    name=f"eth{index}",
                    neighbors=[
                        pb.MachineNic(
                            hostname=f"leaf0{index + 1}", identifier=f"leaf0{index + 1}-{port}"
                        )
                    ],
                )
                for index in range(2)
            ],
        ),
        ipmi=pb.MachineIPMI(
            address=f"192.0.2.{number}:623",
            mac=f"BB:00:00:00:00:{number:02x}",
            user="metal",
            password="bmc-secret",
            interface="lanplus",
            fru=pb.MachineFRU(board_mfg_serial=f"B{number}"),
            bmc_version="1.74",
            power_state="ON",
        ),
    )
    for name, value in more.items():
        if isinstance(value, str):
            setattr(request, name, value)
        else:
            getattr(request, name).MergeFrom(value)
    return request


def run(
    directory: Path,
    scenario: Callable[[Boots], Awaitable[None]],
    url: str = ":memory:",
    settings: Settings | None = None,
) -> None:
    async def whole() -> None:
        async with fleet(url=url) as ready, served(ready, directory, settings) as boots:
            await scenario(boots)

    asyncio.run(whole())


@asynccontextmanager
async def served(
    ready: Fleet, directory: Path, settings: Settings | None = None
) -> AsyncIterator[Boots]:
    authority = Authority(directory)
    site = ready.world.client.site
    if settings is not None:
        site = replace(site, settings=settings)
    async with (
        partition_server(site, authority) as endpoint,
        calling(endpoint, authority.issue("machine")) as channel,
    ):
        yield Boots(ready, site, channel)


def call_wait(channel: Channel, machine_id: str = ONE) -> "WaitCall":
    return WaitCall(channel, machine_id)


class WaitCall:
    """A stream in which a machine waits."""

    def __init__(self, channel: Channel, machine_id: str) -> None:
        self._open = channel.open(BootService.WAIT)
        self._machine_id = machine_id

    async def __aenter__(self) -> Self:
        self._stream = await self._open.__aenter__()
        await self._stream.send(pb.BootServiceWaitRequest(machine_id=self._machine_id))
        await self._stream.end()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._open.__aexit__(None, None, None)

    async def receive(self) -> pb.BootServiceWaitResponse | None:
        async with asyncio.timeout(10):
            return await self._stream.receive()

    async def ended(self) -> None:
        """Read until it ends without an error."""
        while await self.receive() is not None:
            pass


async def is_not(told: Awaitable[bool]) -> bool:
    return not await told


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again; a test that waits in vain fails."""
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110  # a database tells nobody
            await asyncio.sleep(0.01)
