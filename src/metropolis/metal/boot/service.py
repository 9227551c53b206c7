# SPDX-License-Identifier: Apache-2.0
"""The boot service and the event service, thin over what can be done with machines."""

import asyncio
import logging
from functools import partial
from typing import Final

from google.protobuf.json_format import MessageToJson

from metropolis.api import metal_boot_pb2 as pb
from metropolis.api.rpc_metal_boot import BootService, EventService
from metropolis.base.errors import InvalidArgumentError, MetropolisError
from metropolis.metal.access.caller import Caller
from metropolis.metal.audit.journal import Deed, Journal
from metropolis.metal.boot import messages
from metropolis.metal.boot.speaking import check_machine, check_partition, foreign_machines
from metropolis.metal.model.event import Event
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.partition import PARTITIONS
from metropolis.metal.services.events import receive_events, record_event
from metropolis.metal.services.machines import write_again
from metropolis.metal.services.registration import register
from metropolis.metal.services.reports import abort_reinstall, report
from metropolis.metal.services.waiting import start_waiting, stop_waiting
from metropolis.metal.site import Site
from metropolis.metal.waiters import Waiters
from metropolis.rpc.channel import ServerStream, Services
from metropolis.rpc.peer import Peer

LOG: Final = logging.getLogger("metropolis.metal.boot")

KEEPALIVE_S: Final = 5.0
# How often a waiting stream looks at its machine without having been woken.
LOOK_AGAIN_S: Final = 60.0
_REGISTER_PATH: Final = "/api.v1.BootService/Register"
_DHCP_MESSAGE: Final = "machine sent extended dhcp request"

WaitStream = ServerStream[pb.BootServiceWaitRequest, pb.BootServiceWaitResponse]


class _Boot:
    def __init__(self, site: Site, waiters: Waiters) -> None:
        self._site = site
        self._store = site.store
        self._waiters = waiters
        self._journal = Journal(site)

    async def dhcp(
        self, request: pb.BootServiceDhcpRequest, peer: Peer
    ) -> pb.BootServiceDhcpResponse:
        await self._check_machine(peer, request.uuid)
        event = partial(
            record_event, machine_id=request.uuid, event=Event.PXE_BOOTING, message=_DHCP_MESSAGE
        )
        await write_again(self._store, event, serial=False)
        return pb.BootServiceDhcpResponse()

    async def boot(
        self, request: pb.BootServiceBootRequest, peer: Peer
    ) -> pb.BootServiceBootResponse:
        await self._check_partition(peer, request.partition_id)
        partition = await self._store.read(
            lambda reader: reader.get(PARTITIONS, request.partition_id)
        )
        boot = partition.value.boot
        return pb.BootServiceBootResponse(
            kernel=boot.kernel_url, init_ram_disks=[boot.image_url], cmdline=boot.command_line
        )

    async def super_user_password(
        self, _request: pb.BootServiceSuperUserPasswordRequest, _peer: Peer
    ) -> pb.BootServiceSuperUserPasswordResponse:
        password = self._site.settings.superuser_password
        return pb.BootServiceSuperUserPasswordResponse(
            feature_disabled=not password, super_user_password=password
        )

    async def register(
        self, request: pb.BootServiceRegisterRequest, peer: Peer
    ) -> pb.BootServiceRegisterResponse:
        """Make a machine known; the one call of this service that the audit tells of."""
        who = peer.identity or peer.address
        deed = Deed(
            request_id=self._journal.new_request_id(),
            caller=Caller(email=who, name=who),
            type="grpc",
            detail="unary",
            path=_REGISTER_PATH,
            remote_addr=peer.address,
        )
        async with self._journal.recorded(deed, body=MessageToJson(request).encode()):
            await self._check_partition(peer, request.partition_id)
            await self._check_machine(peer, request.uuid)
            registration = messages.to_registration(request)
            stored = await write_again(self._store, partial(register, registration=registration))
        return pb.BootServiceRegisterResponse(
            uuid=stored.id, size=stored.value.size_id, partition_id=stored.value.partition_id
        )

    async def wait(self, stream: WaitStream) -> None:
        request = await stream.receive()
        if request is None or not request.machine_id:
            raise InvalidArgumentError("machine_id is empty", remedy="Send the machine's UUID.")
        machine_id = request.machine_id
        await self._check_machine(stream.peer, machine_id)
        try:
            await self._wait_allocated(machine_id, stream)
        finally:
            # Another stream of the same machine goes on offering it: here, or at another replica,
            # which hears of this and offers it again.
            if not self._waiters.is_awaited((MACHINES.name, machine_id)):
                await asyncio.shield(self._withdraw(machine_id))

    async def _wait_allocated(self, machine_id: str, stream: WaitStream) -> None:
        loop = asyncio.get_running_loop()
        with self._waiters.waiting((MACHINES.name, machine_id)) as changed:
            while not await self._offered(machine_id):
                offered_until = loop.time() + LOOK_AGAIN_S
                while not changed.is_set() and loop.time() < offered_until:
                    await stream.send(pb.BootServiceWaitResponse())
                    await _wait_set(changed, KEEPALIVE_S)
                changed.clear()

    async def _offered(self, machine_id: str) -> bool:
        """Let a machine wait, and tell whether it has to no longer."""
        machine = await self._store.read(lambda reader: reader.get(MACHINES, machine_id))
        if machine.value.allocation is not None:
            return True
        if machine.value.waiting:  # thousands ask every minute: nothing is written for that
            return False
        return await write_again(self._store, partial(start_waiting, machine_id=machine_id))

    async def _withdraw(self, machine_id: str) -> None:
        try:
            await write_again(self._store, partial(stop_waiting, machine_id=machine_id))
        except MetropolisError as error:
            # It counts as waiting until it is found dead. It asks again much sooner.
            LOG.warning("machine %s still counts as waiting: %s", machine_id, error)

    async def report(
        self, request: pb.BootServiceReportRequest, peer: Peer
    ) -> pb.BootServiceReportResponse:
        await self._check_machine(peer, request.uuid)
        await write_again(self._store, partial(report, done=messages.to_report(request)))
        return pb.BootServiceReportResponse()

    async def abort_reinstall(
        self, request: pb.BootServiceAbortReinstallRequest, peer: Peer
    ) -> pb.BootServiceAbortReinstallResponse:
        await self._check_machine(peer, request.uuid)
        boot = await write_again(
            self._store,
            partial(
                abort_reinstall,
                machine_id=request.uuid,
                primary_disk_wiped=request.primary_disk_wiped,
            ),
        )
        return pb.BootServiceAbortReinstallResponse(
            boot_info=None if boot is None else messages.from_boot_info(boot)
        )

    async def send_events(
        self, request: pb.EventServiceSendRequest, peer: Peer
    ) -> pb.EventServiceSendResponse:
        """Record events; what is refused of several is in the answer, not an error.

        Whoever sends for many machines (a switch for its rack) would otherwise take one bad name
        for the loss of all, and send all again.
        """
        events = messages.to_events(request)
        foreign = await self._store.read(lambda reader: foreign_machines(reader, peer, events))
        for each in foreign:
            del events[each]
        received = await receive_events(self._store, events)
        failed = sorted((*received.failed, *foreign))
        if failed and not received.count:
            named = ", ".join(each[:64] for each in failed[:10])
            raise InvalidArgumentError(
                f"events: none was taken, of {named}",
                remedy="Name machines by their UUID and events as the interface spells them.",
            )
        return pb.EventServiceSendResponse(events=received.count, failed=failed)

    async def _check_machine(self, peer: Peer, machine_id: str) -> None:
        await self._store.read(lambda reader: check_machine(reader, peer, machine_id))

    async def _check_partition(self, peer: Peer, partition_id: str) -> None:
        await self._store.read(lambda reader: check_partition(reader, peer, partition_id))


async def _wait_set(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return


def boot_services(site: Site, waiters: Waiters) -> Services:
    """Return the boot service and the event service of a replica."""
    boot = _Boot(site, waiters)
    services = Services()
    services.unary(BootService.DHCP, boot.dhcp)
    services.unary(BootService.BOOT, boot.boot)
    services.unary(BootService.SUPER_USER_PASSWORD, boot.super_user_password)
    services.unary(BootService.REGISTER, boot.register)
    services.stream(BootService.WAIT, boot.wait)
    services.unary(BootService.REPORT, boot.report)
    services.unary(BootService.ABORT_REINSTALL, boot.abort_reinstall)
    services.unary(EventService.SEND, boot.send_events)
    return services
