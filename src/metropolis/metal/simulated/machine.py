# SPDX-License-Identifier: Apache-2.0
"""One simulated machine: a board with a power switch, a boot order, a disk, and what runs on it.

power on ─► PXE ─► discovery: Preparing, Registering, Waiting ─► Installing ─► its own system
      └───► disk, if a system is on it ──────────────────────────────────────────┘
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final, NoReturn, TypeVar

from google.protobuf.message import Message

from metropolis.api import metal_boot_pb2 as pb
from metropolis.api.methods import Method
from metropolis.api.rpc_metal_boot import BootService, EventService
from metropolis.base.errors import MetropolisError, UnavailableError
from metropolis.metal.model.event import Event
from metropolis.metal.simulated.blueprint import Blueprint
from metropolis.rpc.channel import Channel

BEAT_S: Final = 60.0  # between signs of life
RETRY_S: Final = 3.0
ATTEMPTS: Final = 10
SILENCE_MAX_S: Final = 30.0  # of a stream that should say every 5 s that it is alive

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


class BootTarget(StrEnum):
    """What a machine boots next, and every time until it is told otherwise."""

    PXE = "pxe"
    DISK = "disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """That the machine is somebody's, as the REST API tells it."""

    reinstall: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Character:
    """How a machine behaves.

    Attributes:
        step_s: How long it takes for anything, on average.
        installation_fails: How often, of 1.
        crashes: How often the discovery image crashes in one boot, of 1.
        aborts: How often it gives up to install again before it has touched the disk, of 1.
    """

    step_s: float = 3.0
    installation_fails: float = 0.0
    crashes: float = 0.0
    aborts: float = 0.0


class _RebootError(Exception):
    """What runs on the machine gave up."""


class SimulatedMachine:
    """A machine.

    Args:
        channel: To the control plane.
        read_assignment: Asks the REST API whose the machine with this id is.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        channel: Channel,
        *,
        read_assignment: Callable[[str], Awaitable[Assignment | None]],
        jitter: Random,
        character: Character,
    ) -> None:
        self.blueprint = blueprint
        self.character = character
        self.boot_target = BootTarget.PXE
        self.is_installed = False
        self.is_lit = False
        self._channel = channel
        self._read_assignment = read_assignment
        self._jitter = jitter
        self._on = asyncio.Event()
        self._on.set()
        self._interrupted = asyncio.Event()

    @property
    def machine_id(self) -> str:
        """Its UUID."""
        return self.blueprint.machine_id

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        return self._on.is_set()

    def switch_on(self) -> None:
        """Give it power; nothing happens if it has."""
        self._on.set()

    def switch_off(self) -> None:
        """Take its power, whatever it does."""
        self._on.clear()
        self._interrupted.set()

    def reset(self) -> None:
        """Let it boot anew; nothing happens without power."""
        self._interrupted.set()

    async def run(self) -> None:
        """Boot and live whenever there is power, for ever."""
        while True:
            await self._on.wait()
            self._interrupted.clear()
            async with asyncio.TaskGroup() as group:
                life = group.create_task(self._live())
                await self._interrupted.wait()
                life.cancel()

    async def _live(self) -> None:
        try:
            await self._pause()
            if self.boot_target is BootTarget.DISK and self.is_installed:
                await self._run_system()
            async with asyncio.TaskGroup() as group:
                beat = group.create_task(self._beat(Event.ALIVE))
                try:
                    await self._discover()
                finally:
                    beat.cancel()
            await self._run_system()
        except* _RebootError:
            await self._pause()
            self._interrupted.set()

    async def _discover(self) -> None:
        """What the discovery image does; its end is the start of the installed system."""
        request = pb.BootServiceDhcpRequest(uuid=self.machine_id)
        await self._insist(BootService.DHCP, request)
        partition_id = self.blueprint.partition_id
        await self._insist(BootService.BOOT, pb.BootServiceBootRequest(partition_id=partition_id))
        await self._tell(Event.PREPARING)
        await self._pause()
        await self._maybe_crash()
        await self._tell(Event.REGISTERING)
        await self._insist(BootService.REGISTER, self.blueprint.registration())
        assignment = await self._assignment()
        if assignment is not None and assignment.reinstall:
            if await self._abort():
                return
        else:
            self.is_installed = False  # the disks are wiped
            await self._pause()
            await self._maybe_crash()
            await self._tell(Event.WAITING)
            await self._wait()
        while await self._assignment() is None:
            await self._wait()
        await self._install()

    async def _abort(self) -> bool:
        """Perhaps leave the old system as it is; tell whether that runs now."""
        if not self.is_installed or self._jitter.random() >= self.character.aborts:
            return False
        request = pb.BootServiceAbortReinstallRequest(uuid=self.machine_id)
        answer = await self._insist(BootService.ABORT_REINSTALL, request)
        return answer.HasField("boot_info")

    async def _wait(self) -> None:
        """Wait until somebody wants it, over any number of streams."""
        request = pb.BootServiceWaitRequest(machine_id=self.machine_id)
        while True:
            try:
                async with self._channel.open(BootService.WAIT) as stream:
                    await stream.send(request)
                    await stream.end()
                    while True:
                        async with asyncio.timeout(SILENCE_MAX_S):
                            if await stream.receive() is None:
                                return
            except (MetropolisError, TimeoutError):
                await asyncio.sleep(RETRY_S)

    async def _install(self) -> None:
        await self._tell(Event.INSTALLING)
        await self._pause()
        if self._jitter.random() < self.character.installation_fails:
            self.is_installed = False
            await self._report(success=False)
            await self._crash("the image cannot be unpacked")
        await self._report(success=True)
        self.is_installed = True
        await self._tell(Event.BOOTING_NEW_KERNEL)
        await self._pause()

    async def _report(self, *, success: bool) -> None:
        request = pb.BootServiceReportRequest(
            uuid=self.machine_id,
            success=success,
            message="" if success else "the image cannot be unpacked",
            console_password=f"{self._jitter.getrandbits(64):016x}",
            boot_info=pb.BootInfo(
                primary_disk="/dev/nvme0n1",
                os_partition="/dev/nvme0n1p2",
                kernel="/boot/vmlinuz",
                initrd="/boot/initrd.img",
                cmdline="console=ttyS1,115200n8 root=/dev/nvme0n1p2",
                bootloader_id="metal-ubuntu",
            ),
        )
        await self._insist(BootService.REPORT, request)

    async def _run_system(self) -> NoReturn:
        """The owner's system: the switches hear it and say so."""
        await self._beat(Event.PHONED_HOME)

    async def _beat(self, event: Event) -> NoReturn:
        while True:
            if event is Event.ALIVE:
                await asyncio.sleep(BEAT_S)
            await self._tell(event, attempts=1)
            if event is not Event.ALIVE:
                await asyncio.sleep(BEAT_S)

    async def _maybe_crash(self) -> None:
        if self._jitter.random() < self.character.crashes:
            await self._crash("out of memory")

    async def _crash(self, why: str) -> NoReturn:
        await self._tell(Event.CRASHED, message=why)
        raise _RebootError(why)

    async def _tell(self, event: Event, *, message: str = "", attempts: int = ATTEMPTS) -> None:
        """Send an event; one that nobody takes is lost."""
        told = pb.MachineProvisioningEvent(event=event.value, message=message)
        request = pb.EventServiceSendRequest(events={self.machine_id: told})
        for _ in range(attempts):
            try:
                await self._channel.call(EventService.SEND, request)
            except MetropolisError:
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _assignment(self) -> Assignment | None:
        for _ in range(ATTEMPTS):
            try:
                return await self._read_assignment(self.machine_id)
            except MetropolisError:
                await asyncio.sleep(RETRY_S)
        raise _RebootError("nobody says whose the machine is")

    async def _insist(self, method: Method[Req, Res], request: Req) -> Res:
        """Call until there is an answer; a refusal, or too long a silence, ends in a reboot."""
        for _ in range(ATTEMPTS):
            try:
                return await self._channel.call(method, request)
            except UnavailableError:
                await asyncio.sleep(RETRY_S)
            except MetropolisError as error:
                raise _RebootError(str(error)) from error
        raise _RebootError(f"nobody answers {method.name}")

    async def _pause(self) -> None:
        await asyncio.sleep(self.character.step_s * (0.5 + self._jitter.random()))
