# SPDX-License-Identifier: Apache-2.0
"""Keeps one DHCP lease on one link: moves bytes and time between the client and the host.

It decides nothing and configures nothing: it says which lease is held, and whoever runs it uses it.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, assert_never

from metropolis.base.errors import UnavailableError, chain
from metropolis.host.network import DhcpSocket, Link
from metropolis.node.network.edges import VENDOR_CLASS, NetworkEdges
from metropolis.protocols.dhcp4.client import (
    Chance,
    Client,
    Command,
    Configure,
    Deconfigure,
    Event,
    Identity,
    Received,
    Reconnected,
    Remark,
    Send,
    Tick,
)
from metropolis.protocols.dhcp4.lease import Lease
from metropolis.protocols.dhcp4.message import MalformedMessageError, decode, encode
from metropolis.protocols.dhcp4.packet import decode_packet, encode_packet
from metropolis.supervision import Logger

_TRANSACTION_BYTES: Final = 4
_NOBODY: Final = IPv4Address(0)
_REMARKS_MAX: Final = 20  # until the next lease
_EVENTS_MAX: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLease:
    """A lease, and until when it may be used in monotonic seconds."""

    lease: Lease
    expires_s: float


class LeaseKeeper:
    """One DHCP client on one link.

    Attributes:
        held: The lease that may be used now.
        hardware_address: Whose lease it is. A bond changes its own when its members join: begin
            anew then.
        is_gone: The link is no more; `run` has ended.
    """

    def __init__(
        self, link: Link, *, edges: NetworkEdges, log: Logger, changed: Callable[[], None]
    ) -> None:
        """Prepare a client.

        Args:
            changed: Called when `held` or `is_gone` changes.
        """
        self.index = link.index
        self.held: HeldLease | None = None
        self.is_gone = False
        self._name = link.name
        self._has_carrier = link.has_carrier
        self._carrier_losses = link.carrier_losses
        self.hardware_address = link.hardware_address
        self._edges = edges
        self._log = log
        self._changed = changed
        self._jitter = edges.entropy.jitter()
        self._events: asyncio.Queue[Event] = asyncio.Queue(_EVENTS_MAX)
        self._remarks: list[str] = []

    def observe(self, link: Link) -> None:
        """Look at the link: a new carrier may be another network."""
        was_cut = link.carrier_losses != self._carrier_losses
        is_new = not self._has_carrier and self.held is None
        self._has_carrier = link.has_carrier
        if link.has_carrier and (was_cut or is_new):
            self._carrier_losses = link.carrier_losses
            self._tell(Reconnected())

    async def run(self) -> None:
        """Keep a lease until cancelled, or until the link is gone."""
        try:
            socket = self._edges.dhcp.open(self.index)
        except UnavailableError as error:
            self._end(error)
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(socket))
                await self._converse(socket)
        except* UnavailableError as errors:
            self._end(errors)
        finally:
            socket.close()

    def _end(self, error: BaseException) -> None:
        self._log.warning("%s: %s", self._name, chain(error))
        self.held, self.is_gone = None, True
        self._changed()

    async def _listen(self, socket: DhcpSocket) -> None:
        while True:
            packet = await socket.receive()
            try:
                message = decode(decode_packet(packet).payload)
            except MalformedMessageError as error:
                self._remark(f"dropped a packet: {error}")
            else:
                self._tell(Received(message))

    def _tell(self, event: Event) -> None:
        with contextlib.suppress(asyncio.QueueFull):  # a flood: what is lost is sent again
            self._events.put_nowait(event)

    async def _converse(self, socket: DhcpSocket) -> None:
        now_s = self._edges.clock.monotonic_s()
        identity = Identity(hardware_address=self.hardware_address, vendor_class=VENDOR_CLASS)
        client = Client(identity=identity, deadline_s=now_s, since_s=now_s)
        while True:
            event = await self._next_event(client.deadline_s)
            before = client.state
            client, commands = client.step(
                event, now_s=self._edges.clock.monotonic_s(), chance=self._chance()
            )
            if client.state is not before:
                self._log.info("%s: %s => %s", self._name, before, client.state)
            for command in commands:
                self._perform(socket, command)

    async def _next_event(self, deadline_s: float) -> Event:
        wait_s = deadline_s - self._edges.clock.monotonic_s()
        if wait_s <= 0:
            return Tick()
        try:
            async with asyncio.timeout(None if math.isinf(wait_s) else wait_s):
                return await self._events.get()
        except TimeoutError:
            return Tick()

    def _chance(self) -> Chance:
        transaction = self._edges.entropy.token_bytes(_TRANSACTION_BYTES)
        return Chance(
            transaction=int.from_bytes(transaction, "big"), jitter=self._jitter.uniform(-1, 1)
        )

    def _perform(self, socket: DhcpSocket, command: Command) -> None:
        match command:
            case Send(message, None):
                source = message.client_address
                socket.broadcast(encode_packet(encode(message), source=source))
            case Send(message, to):
                assert to is not None
                assert message.client_address != _NOBODY
                socket.send(encode(message), source=message.client_address, to=to)
            case Configure(lease, expires_s):
                self._remarks.clear()
                self.held = HeldLease(lease=lease, expires_s=expires_s)
                self._changed()
            case Deconfigure(reason):
                self._log.warning("%s: %s", self._name, reason)
                self.held = None
                self._changed()
            case Remark(text):
                self._remark(text)
            case _:
                assert_never(command)

    def _remark(self, text: str) -> None:
        """Log what a stranger causes, but not over and over."""
        if text in self._remarks or len(self._remarks) >= _REMARKS_MAX:
            return
        self._remarks.append(text)
        self._log.warning("%s: %s", self._name, text)
