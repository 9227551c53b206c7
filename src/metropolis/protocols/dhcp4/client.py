# SPDX-License-Identifier: Apache-2.0
"""The client's state machine (RFC 2131 section 4.4). The room's page has its diagram.

Every transition is in this file; nothing here sends, waits, draws a number or logs. The shell
feeds one event at a time, with the monotonic time and a little chance, and carries out commands.
A message that does not fit is dropped: late, doubled and foreign ones are normal on a network.
"""

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Final, assert_never

from metropolis.protocols.dhcp4.lease import Lease, RefusedLeaseError, read_lease
from metropolis.protocols.dhcp4.message import MESSAGE_BYTES_MAX, Message, MessageType, Option

RETRY_FIRST_S: Final = 1.4
RETRY_MAX_S: Final = 30.0  # while there is no address
RETRY_HELD_MAX_S: Final = 300.0  # while one is renewed
RETRY_JITTER: Final = 0.2
PATIENCE_S: Final = 30.0  # with one server's offer, and with one transaction number
ELAPSED_S_MAX: Final = 0xFFFF  # the field has 16 bits

WANTED: Final = bytes(
    [
        Option.SUBNET_MASK,
        Option.CLASSLESS_ROUTES,  # before the router option, as RFC 3442 demands
        Option.ROUTER,
        Option.NAME_SERVERS,
        Option.INTERFACE_MTU,
        Option.BROADCAST_ADDRESS,
        Option.TIME_SERVERS,
        Option.LEASE_TIME,
        Option.RENEWAL_TIME,
        Option.REBINDING_TIME,
    ]
)


class State(enum.StrEnum):
    """Where the client stands; the names appear in logs."""

    DISCOVERING = "DISCOVERING"  # looks for servers
    REQUESTING = "REQUESTING"  # has taken an offer, waits for its confirmation
    BOUND = "BOUND"  # holds a lease
    RENEWING = "RENEWING"  # holds a lease, asks its server for more time
    REBINDING = "REBINDING"  # holds a lease, asks any server whether it still holds


HOLDING: Final = (State.BOUND, State.RENEWING, State.REBINDING)  # the address may be used


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who asks. The same machine should always be the same client."""

    hardware_address: bytes  # 6 bytes
    vendor_class: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """What the shell draws before every step."""

    transaction: int  # 32 bits; unpredictable, as it is all that keeps strangers out
    jitter: float  # -1 to 1


@dataclass(frozen=True, slots=True)
class Received:
    """A message came in."""

    message: Message


@dataclass(frozen=True, slots=True)
class Tick:
    """`Client.deadline_s` has passed."""


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The link has its carrier back: this may be another network."""


Event = Received | Tick | Reconnected


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message: to everybody from no address when `to` is None, else to that server."""

    message: Message
    to: IPv4Address | None


@dataclass(frozen=True, slots=True)
class Configure:
    """Use the lease, instead of any other, until the monotonic time `expires_s`."""

    lease: Lease
    expires_s: float


@dataclass(frozen=True, slots=True)
class Deconfigure:
    """Stop using the address at once; `reason` is for the log."""

    reason: str


@dataclass(frozen=True, slots=True)
class Remark:
    """Something worth a line of log: a server that talks nonsense."""

    text: str


Command = Send | Configure | Deconfigure | Remark
Step = tuple["Client", Sequence[Command]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One client as a value: `step` returns the next one and leaves this one alone.

    Attributes:
        deadline_s: When the next `Tick` is due; infinity when none is.
        attempts: How often the present question was asked in vain.
        transaction: Number of the present exchange; its answers carry it.
        asked_s: When that exchange began: leases count from here, which is never too late.
        since_s: Since when the client is looking for servers.
        lease: The one that is held, or asked for in REQUESTING.
        granted_s: From when the held lease counts.
        spurned: Servers whose offers came to nothing since the last lease.
        reserve: An offer of one of those, in case that no other server answers.
        failures: How many offers came to nothing since the last lease.
    """

    identity: Identity
    state: State = State.DISCOVERING
    deadline_s: float
    attempts: int = 0
    transaction: int = 0
    asked_s: float = -math.inf
    since_s: float = 0.0
    lease: Lease | None = None
    granted_s: float = 0.0
    spurned: tuple[IPv4Address, ...] = ()
    reserve: Lease | None = None
    failures: int = 0

    @property
    def held(self) -> Lease | None:
        """The lease whose address may be used now."""
        return self.lease if self.state in HOLDING else None

    @property
    def expires_s(self) -> float:
        """When the held lease ends."""
        assert self.lease is not None
        return self.granted_s + self.lease.lease_s

    def step(self, event: Event, *, now_s: float, chance: Chance) -> Step:
        """Apply one event.

        Args:
            now_s: Monotonic seconds, never less than at the last step.

        Returns:
            The next client, and what to do, in order.
        """
        match event:
            case Received(message):
                if message.transaction != self.transaction or not message.is_reply:
                    return self, ()
                if message.hardware_address != self.identity.hardware_address:
                    return self, ()
                return self._received(message, now_s=now_s, chance=chance)
            case Tick():
                if now_s < self.deadline_s:
                    return self, ()
                return self._tick(now_s=now_s, chance=chance)
            case Reconnected():
                return self._reconnected(now_s=now_s, chance=chance)
            case _:
                assert_never(event)

    def _received(self, message: Message, *, now_s: float, chance: Chance) -> Step:
        match message.type, self.state:
            case MessageType.OFFER, State.DISCOVERING:
                return self._offered(message, now_s=now_s, chance=chance)
            case MessageType.ACK, State.DISCOVERING:
                if Option.RAPID_COMMIT not in message.options:
                    return self, ()
                return self._granted(message, now_s=now_s)
            case MessageType.ACK, State.REQUESTING | State.RENEWING | State.REBINDING:
                if self.state is not State.REBINDING and not self._is_from_server(message):
                    return self, ()
                return self._granted(message, now_s=now_s)
            case MessageType.NAK, State.REQUESTING | State.RENEWING | State.REBINDING:
                if self.state is not State.REBINDING and not self._is_from_server(message):
                    return self, ()
                return self._refused(now_s=now_s, chance=chance)
            case _:
                return self, ()

    def _is_from_server(self, message: Message) -> bool:
        """A NAK may lack the identifier; one of somebody else is a stranger's."""
        assert self.lease is not None
        return message.address_option(Option.SERVER_IDENTIFIER) in {None, self.lease.server}

    def _offered(self, message: Message, *, now_s: float, chance: Chance) -> Step:
        try:
            lease = read_lease(message)
        except RefusedLeaseError as error:
            return self, (Remark(f"refused an offer: {error}"),)
        if lease.server in self.spurned:
            return replace(self, reserve=self.reserve or lease), ()
        return self._request(lease, now_s=now_s, chance=chance)

    def _granted(self, message: Message, *, now_s: float) -> Step:
        try:
            lease = read_lease(message)
        except RefusedLeaseError as error:
            return self, (Remark(f"refused a lease: {error}"),)
        expires_s = self.asked_s + lease.lease_s
        if expires_s <= now_s:
            return self, (Remark("refused a lease: it ended before it arrived"),)
        bound = Client(
            identity=self.identity,
            state=State.BOUND,
            deadline_s=max(self.asked_s + lease.renew_s, now_s),
            transaction=self.transaction,
            asked_s=self.asked_s,
            lease=lease,
            granted_s=self.asked_s,
        )
        return bound, (Configure(lease, expires_s),)

    def _refused(self, *, now_s: float, chance: Chance) -> Step:
        assert self.lease is not None
        if self.state is State.REQUESTING:
            return self._spurn(now_s=now_s, chance=chance, how="took its offer back")
        return self._give_up("the server refused to renew the lease", now_s=now_s)

    def _tick(self, *, now_s: float, chance: Chance) -> Step:
        match self.state:
            case State.DISCOVERING:
                if self.reserve is not None:
                    return self._request(self.reserve, now_s=now_s, chance=chance)
                return self._discover(now_s=now_s, chance=chance)
            case State.REQUESTING:
                assert self.lease is not None
                if now_s >= self.asked_s + PATIENCE_S:
                    return self._spurn(now_s=now_s, chance=chance, how="does not confirm its offer")
                return self._request(self.lease, now_s=now_s, chance=chance)
            case State.BOUND | State.RENEWING | State.REBINDING:
                assert self.lease is not None
                if now_s >= self.expires_s:
                    return self._give_up("no server renewed the lease in time", now_s=now_s)
                late = now_s >= self.granted_s + self.lease.rebind_s
                is_open = late or self.state is State.REBINDING
                state = State.REBINDING if is_open else State.RENEWING
                return self._renew(state, now_s=now_s, chance=chance)
            case _:
                assert_never(self.state)

    def _reconnected(self, *, now_s: float, chance: Chance) -> Step:
        if self.state in HOLDING:
            return self._renew(State.REBINDING, now_s=now_s, chance=chance)
        fresh = Client(identity=self.identity, deadline_s=now_s, since_s=now_s)
        return fresh.step(Tick(), now_s=now_s, chance=chance)

    def _discover(self, *, now_s: float, chance: Chance) -> Step:
        is_fresh = now_s < self.asked_s + PATIENCE_S  # slow servers may still answer the last one
        transaction = self.transaction if is_fresh else chance.transaction
        asking = replace(
            self,
            transaction=transaction,
            asked_s=self.asked_s if is_fresh else now_s,
            attempts=self.attempts + 1,
            deadline_s=now_s + _back_off_s(self.attempts, RETRY_MAX_S, chance),
        )
        options: dict[int, bytes] = {Option.RAPID_COMMIT: b""}
        message = asking._message(MessageType.DISCOVER, now_s=now_s, options=options)  # noqa: SLF001  # of this very class
        return asking, (Send(message, None),)

    def _request(self, lease: Lease, *, now_s: float, chance: Chance) -> Step:
        is_again = self.state is State.REQUESTING
        attempts = self.attempts if is_again else 0
        asked_s = self.asked_s if is_again else now_s
        retry_s = now_s + _back_off_s(attempts, RETRY_MAX_S, chance)
        asking = replace(
            self,
            state=State.REQUESTING,
            lease=lease,
            reserve=None,
            attempts=attempts + 1,
            asked_s=asked_s,
            deadline_s=min(retry_s, asked_s + PATIENCE_S),
        )
        options: dict[int, bytes] = {
            Option.REQUESTED_ADDRESS: lease.address.ip.packed,
            Option.SERVER_IDENTIFIER: lease.server.packed,
        }
        message = asking._message(MessageType.REQUEST, now_s=now_s, options=options)  # noqa: SLF001  # of this very class
        return asking, (Send(message, None),)

    def _spurn(self, *, now_s: float, chance: Chance, how: str) -> Step:
        """Look for another server; the more offers failed us, the longer the pause."""
        assert self.lease is not None
        server = self.lease.server
        spurned = (*(each for each in self.spurned if each != server), server)
        looking = Client(
            identity=self.identity,
            deadline_s=now_s + _back_off_s(self.failures, RETRY_MAX_S, chance),
            since_s=self.since_s,
            spurned=spurned[-_SPURNED_MAX:],
            failures=self.failures + 1,
        )
        return looking, (Remark(f"the server {server} {how}"),)

    def _renew(self, state: State, *, now_s: float, chance: Chance) -> Step:
        assert self.lease is not None
        attempts = self.attempts if self.state is state else 0
        limit_s = self.lease.rebind_s if state is State.RENEWING else self.lease.lease_s
        retry_s = now_s + _back_off_s(attempts, RETRY_HELD_MAX_S, chance)
        asking = replace(
            self,
            state=state,
            attempts=attempts + 1,
            transaction=chance.transaction,
            asked_s=now_s,
            since_s=self.since_s if self.state is not State.BOUND else now_s,
            deadline_s=min(retry_s, self.granted_s + limit_s),
        )
        message = asking._message(MessageType.REQUEST, now_s=now_s, options={})  # noqa: SLF001  # of this very class
        return asking, (Send(message, self.lease.server if state is State.RENEWING else None),)

    def _give_up(self, reason: str, *, now_s: float) -> Step:
        looking = Client(identity=self.identity, deadline_s=now_s, since_s=now_s)
        return looking, (Deconfigure(reason),)

    def _message(self, kind: MessageType, *, now_s: float, options: Mapping[int, bytes]) -> Message:
        identity = self.identity
        held = self.held
        return Message(
            is_reply=False,
            transaction=self.transaction,
            hardware_address=identity.hardware_address,
            elapsed_s=min(max(int(now_s - self.since_s), 0), ELAPSED_S_MAX),
            client_address=IPv4Address(0) if held is None else held.address.ip,
            options={
                Option.MESSAGE_TYPE: bytes([kind]),
                Option.CLIENT_IDENTIFIER: b"\x01" + identity.hardware_address,
                **options,
                Option.MESSAGE_BYTES_MAX: MESSAGE_BYTES_MAX.to_bytes(2, "big"),
                Option.VENDOR_CLASS: identity.vendor_class.encode("ascii"),
                Option.PARAMETERS: WANTED,
            },
        )


_SPURNED_MAX: Final = 8  # whoever fakes more servers than these has the network anyway


def _back_off_s(attempts: int, limit_s: float, chance: Chance) -> float:
    """How long to wait for an answer after `attempts` vain ones."""
    doublings = min(attempts, 16)  # far beyond every limit, and no overflow
    return float(min(RETRY_FIRST_S * 2**doublings, limit_s) * (1 + RETRY_JITTER * chance.jitter))
