# SPDX-License-Identifier: Apache-2.0
"""Who reaches whom, how fast and how reliably. Faults are methods, usable at any moment."""

import asyncio
from collections.abc import Callable, Iterable
from random import Random
from typing import Final, Protocol, final

from metropolis.base.errors import MetropolisError, UnavailableError
from metropolis.rpc.memory.connection import Connection
from metropolis.rpc.status import NotReachedError
from metropolis.rpc.transport import Endpoint

LATENCY_S: Final = (0.0002, 0.002)  # one way, between machines of one rack
LOOPBACK_LATENCY_S: Final = (0.00002, 0.0001)
CONNECT_TIMEOUT_S: Final = 10.0  # for TCP and TLS together
CONNECT_RETRY_FIRST_S: Final = 1.0  # Linux retransmits a SYN after 1, 2, 4 s
RETRANSMIT_FIRST_S: Final = 0.2  # Linux's smallest retransmission time-out
RETRANSMITS_MAX: Final = 6
EPHEMERAL_TCP_PORT_FIRST: Final = 32768
_LOOPBACK: Final = frozenset(("127.0.0.1", "::1"))
_UNSPECIFIED: Final = frozenset(("", "0.0.0.0", "::"))  # noqa: S104  # binds nothing real


class Listener(Protocol):
    """What is bound to an endpoint."""

    certificate: bytes

    def accept(self, connection: Connection, certificate: bytes | None) -> None:
        """Take the server end of a connection whose handshake succeeded."""
        ...


def _silent(_text: str) -> None:
    """Nobody keeps notes."""


@final
class MemoryNetwork:
    """A network between literal IP addresses.

    Args:
        rng: Decides every delay and every loss.
        note: Told about every fault, for the trace of a simulation.
        report_bug: Told about errors of handlers that are no operating errors.
    """

    def __init__(
        self,
        rng: Random,
        *,
        latency_s: tuple[float, float] = LATENCY_S,
        note: Callable[[str], None] = _silent,
        report_bug: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.rng = rng
        self.on_change: list[Callable[[], None]] = []  # called after splits, cuts and power
        self.report_bug = report_bug
        self._note = note
        self.latency_s = latency_s
        self._loss = 0.0
        self._resets = 0.0
        self._group_of: dict[str, int] = {}
        self._cuts: set[tuple[str, str]] = set()  # only ever asked, never walked
        self._off: set[str] = set()  # as above
        self._listeners: dict[tuple[str, Endpoint], Listener] = {}  # by machine and endpoint
        self._connections: dict[Connection, None] = {}
        self._next_tcp_port = EPHEMERAL_TCP_PORT_FIRST

    # Faults

    def split(self, *groups: Iterable[str]) -> None:
        """Let addresses of different groups not reach each other; who is in none reaches all."""
        sides = [sorted(group) for group in groups]
        self._note(f"network split {sides}")
        self._group_of = {address: side for side, group in enumerate(sides) for address in group}
        self._review()

    def cut(self, source: str, destination: str) -> None:
        """Lose everything in one direction."""
        self._note(f"network cut {source} -> {destination}")
        self._cuts.add((source, destination))
        self._review()

    def heal(self) -> None:
        """End all splits and cuts. Loss, resets and latency stay as they are."""
        self._note("network healed")
        self._group_of = {}
        self._cuts.clear()
        self._review()

    def set_latency(self, low_s: float, high_s: float) -> None:
        """Set the one-way delay between machines."""
        self._note(f"latency {low_s} to {high_s} s")
        self.latency_s = (low_s, high_s)

    def set_loss(self, probability: float) -> None:
        """Lose packets: frames come late, by Linux's retransmission times."""
        self._note(f"loss {probability}")
        self._loss = probability

    def set_resets(self, probability: float) -> None:
        """Kill the connection with this probability whenever a frame arrives, before or after."""
        self._note(f"resets {probability}")
        self._resets = probability

    def reset_connections(self, address: str) -> None:
        """Reset every connection of a machine, as a full connection table does."""
        self._note(f"connections of {address} reset")
        for connection in [*self._connections]:
            if address in connection.addresses:
                connection.reset()

    def power_off(self, address: str) -> None:
        """Let a machine vanish: its connections stay half-open until the other ends notice."""
        self._note(f"{address} has no power")
        self._off.add(address)
        for key in [each for each in self._listeners if each[0] == address]:
            del self._listeners[key]
        for connection in [*self._connections]:
            if address in connection.addresses:
                connection.vanish(address)
        self._review()

    def power_on(self, address: str) -> None:
        """Let a machine come back; it knows nothing of its old connections."""
        self._note(f"{address} has power")
        self._off.discard(address)
        self._review()

    # What connections ask

    def is_open(self, source: str, destination: str) -> bool:
        """Tell whether packets get from one address to another."""
        if source in self._off or destination in self._off:
            return False
        if source == destination:
            return True
        if (source, destination) in self._cuts:
            return False
        one, other = self._group_of.get(source), self._group_of.get(destination)
        return one is None or other is None or one == other

    def delay_s(self, source: str, destination: str) -> float:
        """Draw how long a frame takes."""
        if source == destination:
            return self.rng.uniform(*LOOPBACK_LATENCY_S)
        delay_s = self.rng.uniform(*self.latency_s)
        for attempt in range(RETRANSMITS_MAX):
            if self.rng.random() >= self._loss:
                break
            delay_s += RETRANSMIT_FIRST_S * 2**attempt
        return delay_s

    def draws_reset(self, source: str, destination: str) -> bool:
        """Draw whether the connection dies at this frame."""
        return source != destination and self._resets > 0 and self.rng.random() < self._resets

    def forget(self, connection: Connection) -> None:
        """Drop a connection of which both ends are gone."""
        self._connections.pop(connection, None)

    # Listening and connecting

    def bind(self, address: str, endpoint: Endpoint, listener: Listener) -> Endpoint:
        """Listen on a machine: at its address, at loopback, or (unspecified host) at both.

        Port 0 chooses one.

        Raises:
            UnavailableError: the machine has no power, the address is another's, or it is taken.
        """
        host = "" if endpoint.host in _UNSPECIFIED else endpoint.host
        tcp_port = endpoint.tcp_port
        if tcp_port == 0:
            self._next_tcp_port += 1
            tcp_port = self._next_tcp_port
        bound = Endpoint(host, tcp_port)
        is_foreign = host not in {"", address, *_LOOPBACK}
        if is_foreign or address in self._off or (address, bound) in self._listeners:
            raise UnavailableError(
                f"cannot listen on {endpoint}",
                remedy="Stop what listens there, and check the node's address.",
            )
        self._listeners[address, bound] = listener
        return Endpoint(endpoint.host, tcp_port)

    def unbind(self, address: str, endpoint: Endpoint, listener: Listener) -> None:
        """Stop listening. A listener that lost its machine's power may still say so."""
        host = "" if endpoint.host in _UNSPECIFIED else endpoint.host
        key = (address, Endpoint(host, endpoint.tcp_port))
        if self._listeners.get(key) is listener:
            del self._listeners[key]

    async def connect(
        self,
        source: str,
        endpoint: Endpoint,
        *,
        certificate: bytes | None,
        verify: Callable[[bytes], None],
    ) -> Connection:
        """Connect and shake hands.

        Raises:
            NotReachedError: nobody answered within 10 s, or nobody listens.
            MetropolisError: what `verify` raised about the server's certificate.
        """
        is_loopback = endpoint.host in _LOOPBACK
        machine = source if is_loopback else endpoint.host
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._round_trip(source, machine, endpoint)  # TCP
                listener = await self._round_trip(source, machine, endpoint)  # TLS 1.3
        except TimeoutError as cause:
            raise NotReachedError(
                f"{endpoint} did not answer within {CONNECT_TIMEOUT_S:g} s",
                remedy="Check that the node runs and that the network reaches it.",
            ) from cause
        try:
            verify(listener.certificate)
        except MetropolisError as refusal:
            raise type(refusal)(f"{endpoint}: {refusal}", remedy=refusal.remedy) from refusal
        connection = Connection(
            self,
            client_address=source,
            server_address=machine,
            client_seen_as=endpoint.host if is_loopback else source,
        )
        self._connections[connection] = None
        listener.accept(connection, certificate)
        return connection

    async def _round_trip(self, source: str, machine: str, endpoint: Endpoint) -> Listener:
        """Ask and be answered; lost packets cost seconds, silence costs the caller's patience."""
        retry_s = CONNECT_RETRY_FIRST_S
        while True:
            if self._is_open_both_ways(source, machine):
                await asyncio.sleep(self.delay_s(source, machine) + self.delay_s(machine, source))
                if self._is_open_both_ways(source, machine):
                    break
            await asyncio.sleep(retry_s)
            retry_s *= 2
        anywhere = Endpoint("", endpoint.tcp_port)
        listener = self._listeners.get((machine, endpoint)) or self._listeners.get(
            (machine, anywhere)
        )
        if listener is None:
            raise NotReachedError(
                f"nothing listens on {endpoint}",
                remedy="Check that the node runs and that the address is right.",
            )
        return listener

    def _is_open_both_ways(self, one: str, other: str) -> bool:
        return self.is_open(one, other) and self.is_open(other, one)

    def _review(self) -> None:
        """Tell every connection, and who else wants to know, that the network has changed."""
        for connection in [*self._connections]:
            connection.review()
        for listener in self.on_change:
            listener()
