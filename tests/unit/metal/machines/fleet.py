# SPDX-License-Identifier: Apache-2.0
"""A partition with sizes, images and layouts, and machines that register and wait."""

import base64
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from metropolis.metal.model.event import EVENTS, Event, EventContainer
from metropolis.metal.model.hardware import Bios, Cpu, Disk, Hardware
from metropolis.metal.model.image import IMAGES, Image
from metropolis.metal.model.ipmi import Fru
from metropolis.metal.model.layout import (
    LAYOUTS,
    Filesystem,
    FilesystemLayout,
    LayoutConstraints,
    LayoutDisk,
)
from metropolis.metal.model.machine import MACHINES, BootInfo, Machine
from metropolis.metal.model.machine_request import EventReport
from metropolis.metal.model.size import SIZES, Size, SizeConstraint
from metropolis.metal.services.events import receive_events
from metropolis.metal.services.liveliness import judge_liveliness
from metropolis.metal.services.machines import write_again
from metropolis.metal.services.registration import Registration, ReportedBmc, register
from metropolis.metal.services.reports import InstallReport, report
from metropolis.metal.services.waiting import start_waiting, stop_waiting
from metropolis.metal.store import Transaction
from metropolis.metal.store.sqlite import MEMORY
from unit.metal.fabric.world import World, registration, seen, world
from unit.metal.kit import NOW, StillClock

ResultT = TypeVar("ResultT")
GIB = 2**30
UBUNTU = "ubuntu-24.04.20261101"
UBUNTU_NEW = "ubuntu-24.04.20261115"
FIREWALL = "firewall-3.0.20261101"
_KEY = b"\0\0\0\x0bssh-ed25519" + struct.pack(">I", 32) + bytes(32)
SSH_KEY = f"ssh-ed25519 {base64.b64encode(_KEY).decode()} somebody@example.org"


def uuid_of(number: int) -> str:
    """The id of the n-th machine."""
    return f"00000000-0000-0000-0000-{number:012d}"


@dataclass(kw_only=True)
class Fleet:
    """Machines of project `red`'s world, driven as their hammers would."""

    world: World
    network_id: str

    @property
    def clock(self) -> StillClock:
        return self.world.client.clock

    async def write(self, change: Callable[[Transaction], Awaitable[ResultT]]) -> ResultT:
        return await write_again(self.world.store, change)

    async def machine(self, machine_id: str) -> Machine:
        found = await self.world.store.read(lambda reader: reader.get(MACHINES, machine_id))
        return found.value

    async def events(self, machine_id: str) -> EventContainer:
        found = await self.world.store.read(lambda reader: reader.get(EVENTS, machine_id))
        return found.value

    async def send(self, machine_id: str, *events: Event, message: str = "") -> None:
        """Send events, each after the other."""
        for event in events:
            told = EventReport(event=event.value, message=message)
            received = await receive_events(self.world.store, {machine_id: told})
            assert received.failed == ()

    def described(self, number: int) -> Registration:
        """What the n-th machine says of itself: two machines to a rack, two switches to a rack."""
        rack, slot = divmod(number, 2)
        port = ("Ethernet0", "Ethernet4")[slot]
        leaves = (f"leaf{2 * rack + 1:02d}", f"leaf{2 * rack + 2:02d}")
        nics = tuple(
            _with_mac(nic, number, index)
            for index, nic in enumerate(seen(dict.fromkeys(leaves, port)))
        )
        return Registration(
            machine_id=uuid_of(number),
            partition_id="muc",
            hardware=Hardware(
                memory_bytes=64 * GIB,
                cpu_cores=8,
                cpus=(Cpu(vendor="Intel", model="Xeon", cores=8, threads=16),),
                disks=(Disk(name="/dev/sda", size_bytes=500 * GIB),),
                nics=nics,
            ),
            bios=Bios(version="1", vendor="Acme", date="2026-01-01"),
            bmc=ReportedBmc(
                address=f"192.0.2.{number}:623",
                mac=f"bb:00:00:00:00:{number:02x}",
                user="metal",
                password="secret",
                interface="lanplus",
                fru=Fru(chassis_part_serial=f"C{number}", board_mfg_serial=f"B{number}"),
            ),
            metal_hammer_version="v0.14",
        )

    async def add_racks(self, count: int) -> None:
        """Switches of so many racks."""
        for leaf in range(1, 2 * count + 1):
            name = f"leaf{leaf:02d}"
            told = registration(name, rack_id=f"rack-{(leaf + 1) // 2}")
            await self.world.ok("POST", "/v1/switch/register", told, 201)

    async def boot(self, number: int) -> str:
        """Let the n-th machine boot, register and wait."""
        machine_id = uuid_of(number)
        await self.send(machine_id, Event.PXE_BOOTING, Event.PREPARING, Event.REGISTERING)
        described = self.described(number)
        await self.write(lambda tx: register(tx, described))
        await self.wait(machine_id)
        return machine_id

    async def wait(self, machine_id: str) -> bool:
        """Let it wait; tell whether it has to no longer."""
        await self.send(machine_id, Event.WAITING)
        return await self.write(lambda tx: start_waiting(tx, machine_id))

    async def leave(self, machine_id: str) -> None:
        """The stream in which it waits ends."""
        await self.write(lambda tx: stop_waiting(tx, machine_id))

    async def silence(self, seconds: float) -> None:
        """Let time pass in which nothing is heard, and let that be judged."""
        self.clock.advance(seconds)
        await judge_liveliness(self.world.store, now=self.clock.wall())

    async def install(self, machine_id: str, *, success: bool = True, message: str = "") -> None:
        """Let an allocated machine install itself, and report."""
        await self.send(machine_id, Event.INSTALLING)
        done = InstallReport(
            machine_id=machine_id,
            success=success,
            message=message,
            console_password="console-secret",
            boot_info=BootInfo(
                primary_disk="/dev/sda", os_partition="/dev/sda2", kernel="/vmlinuz"
            ),
        )
        await self.write(lambda tx: report(tx, done))
        if success:
            await self.send(machine_id, Event.BOOTING_NEW_KERNEL, Event.PHONED_HOME)

    def request(self, **more: Any) -> dict[str, Any]:
        """A good request for an allocation."""
        return {
            "projectid": "red",
            "partitionid": "muc",
            "sizeid": "medium",
            "imageid": "ubuntu-24.04",
            "networks": [{"networkid": self.network_id, "autoacquire": True}],
            "ssh_pub_keys": [SSH_KEY],
            "name": "worker",
            "hostname": "worker-0",
        } | more

    async def allocate(self, **more: Any) -> Any:
        return await self.world.ok("POST", "/v1/machine/allocate", self.request(**more))

    async def free(self, machine_id: str) -> Any:
        return await self.world.ok("DELETE", f"/v1/machine/{machine_id}/free")


def _with_mac(nic: Any, number: int, index: int) -> Any:
    return type(nic)(
        mac=f"aa:00:00:00:{number:02x}:{index:02x}", name=nic.name, neighbors=nic.neighbors
    )


async def stock(tx: Transaction) -> None:
    """A size, images for machines and firewalls, and a layout for both."""
    constraints = (
        SizeConstraint(type="cores", minimum=8, maximum=8),
        SizeConstraint(type="memory", minimum=64 * GIB, maximum=64 * GIB),
        SizeConstraint(type="storage", minimum=100 * GIB, maximum=1000 * GIB),
    )
    await tx.insert(SIZES, "medium", Size(name="medium", constraints=constraints))
    expires = NOW + timedelta(days=90)
    for image_id, feature in (
        (UBUNTU, "machine"),
        (UBUNTU_NEW, "machine"),
        (FIREWALL, "firewall"),
    ):
        os, _, version = image_id.partition("-")
        image = Image(
            os=os,
            version=version,
            url=f"https://images.example.org/{image_id}",
            expires=expires,
            features=("machine",) if feature == "machine" else ("firewall",),
        )
        await tx.insert(IMAGES, image_id, image)
    layout = FilesystemLayout(
        filesystems=(Filesystem(device="/dev/sda1", format="ext4", path="/"),),
        disks=(LayoutDisk(device="/dev/sda", wipe_on_reinstall=True),),
        constraints=LayoutConstraints(sizes=("medium",), images={"ubuntu": "*", "firewall": "*"}),
    )
    await tx.insert(LAYOUTS, "default", layout)


@asynccontextmanager
async def fleet(*, racks: int = 1, url: str = MEMORY) -> AsyncIterator[Fleet]:
    """A partition with some racks of switches, and a network of project `red`.

    Args:
        url: Of a database.
    """
    async with world(url=url) as made:
        await made.store.write(stock)
        network = await made.child(name="private")
        ready = Fleet(world=made, network_id=network["id"])
        await ready.add_racks(racks)
        yield ready
