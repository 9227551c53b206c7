# SPDX-License-Identifier: Apache-2.0
"""A naive DHCP server and a lossy network, in virtual time, for the model test."""

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from random import Random

from metropolis.protocols.dhcp4.client import (
    HOLDING,
    Chance,
    Client,
    Configure,
    Deconfigure,
    Event,
    Identity,
    Received,
    Send,
    State,
    Tick,
)
from metropolis.protocols.dhcp4.lease import Lease
from metropolis.protocols.dhcp4.message import Message, MessageType, Option, decode, encode

IDENTITY = Identity(hardware_address=bytes.fromhex("02004d450001"), vendor_class="test.v1")


def reply(
    question: Message,
    kind: MessageType,
    *,
    server: IPv4Address,
    address: IPv4Address | None = None,
    options: dict[int, bytes] | None = None,
) -> Message:
    return Message(
        is_reply=True,
        transaction=question.transaction,
        hardware_address=question.hardware_address,
        your_address=address or IPv4Address(0),
        options={
            Option.MESSAGE_TYPE: bytes([kind]),
            Option.SERVER_IDENTIFIER: server.packed,
            **(options or {}),
        },
    )


@dataclass
class NaiveServer:
    """Leases one address of its network; forgets everything when it restarts."""

    network: IPv4Network
    lease_s: int
    is_alive: bool = True
    offers_only: bool = False  # lies: never confirms
    extra: dict[int, bytes] = field(default_factory=dict)  # options beyond the usual ones
    lease_until_s: dict[IPv4Address, float] = field(default_factory=dict)  # by its own count

    @property
    def address(self) -> IPv4Address:
        return self.network[1]

    @property
    def leased(self) -> IPv4Address:
        return self.network[7]

    def terms(self) -> dict[int, bytes]:
        return {
            Option.SUBNET_MASK: self.network.netmask.packed,
            Option.ROUTER: self.address.packed,
            Option.LEASE_TIME: self.lease_s.to_bytes(4, "big"),
            **self.extra,
        }

    def answer(self, question: Message, *, now_s: float) -> Iterator[Message]:
        if not self.is_alive:
            return
        if question.type is MessageType.DISCOVER:
            yield self._say(question, MessageType.OFFER)
            return
        chosen = question.address_option(Option.SERVER_IDENTIFIER)
        if self.offers_only or chosen not in {None, self.address}:
            return
        wanted = question.address_option(Option.REQUESTED_ADDRESS) or question.client_address
        if wanted == self.leased:
            self.lease_until_s[wanted] = now_s + self.lease_s
            yield self._say(question, MessageType.ACK)
        else:
            yield reply(question, MessageType.NAK, server=self.address)

    def _say(self, question: Message, kind: MessageType) -> Message:
        return reply(question, kind, server=self.address, address=self.leased, options=self.terms())


@dataclass
class World:
    """One client, some servers, a network that loses, doubles and delays; all from one seed."""

    rng: Random
    servers: Sequence[NaiveServer]
    loss: float = 0.3
    now_s: float = 1000.0
    client: Client = field(init=False)
    held: tuple[Lease, float] | None = None
    seen: set[State] = field(default_factory=set)
    sent: list[tuple[float, Message]] = field(default_factory=list)
    _flying: list[tuple[float, int, bytes, bool]] = field(default_factory=list)
    _count: int = 0

    def __post_init__(self) -> None:
        self.client = Client(identity=IDENTITY, deadline_s=self.now_s, since_s=self.now_s)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end_s = self.now_s + seconds
        while True:
            flight_s = self._flying[0][0] if self._flying else math.inf
            next_s = min(flight_s, self.client.deadline_s)
            if next_s > end_s:
                self.now_s = end_s
                return
            self.now_s = max(self.now_s, next_s)
            if flight_s <= self.client.deadline_s:
                _, _, data, is_reply = heapq.heappop(self._flying)
                if is_reply:
                    self.feed(Received(decode(data)))
                else:
                    for server in self.servers:
                        for answer in server.answer(decode(data), now_s=self.now_s):
                            self._fly(answer)
            else:
                self.feed(Tick())

    def feed(self, event: Event) -> None:
        chance = Chance(transaction=self.rng.getrandbits(32), jitter=self.rng.uniform(-1, 1))
        self.client, commands = self.client.step(event, now_s=self.now_s, chance=chance)
        for command in commands:
            if isinstance(command, Send):
                self.sent.append((self.now_s, command.message))
                self._fly(command.message)
            elif isinstance(command, Configure):
                self.held = (command.lease, command.expires_s)
            elif isinstance(command, Deconfigure):
                self.held = None
        self.seen.add(self.client.state)
        self.check()

    def check(self) -> None:
        """What must be true after every step."""
        assert (self.held is not None) == (self.client.state in HOLDING)
        assert self.client.deadline_s >= self.now_s or self.client.state is State.DISCOVERING
        if self.held is None:
            return
        lease, expires_s = self.held
        assert self.now_s < expires_s
        assert self.client.deadline_s <= expires_s
        for server in self.servers:
            if server.address == lease.server:  # it gives the address to nobody else yet
                assert expires_s <= server.lease_until_s[lease.address.ip] + 1e-6

    def _fly(self, message: Message) -> None:
        copies = 0 if self.rng.random() < self.loss else self.rng.choice([1, 1, 1, 2])
        for _ in range(copies):
            self._count += 1
            delay_s = self.rng.uniform(0.001, 0.5)
            item = (self.now_s + delay_s, self._count, encode(message), message.is_reply)
            heapq.heappush(self._flying, item)
