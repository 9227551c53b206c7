# SPDX-License-Identifier: Apache-2.0
"""The server's side of SOCKS5 without I/O: bytes in, decisions out.

CONNECT only, no authentication. Sources: RFC 1928 §3, §4, §6.

    METHODS ──greeting──▶ REQUEST ──request──▶ DECIDED ──▶ bytes after that are the connection's
       └──────────────────────┴── anything else ──▶ DECIDED, with a refusal
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

VERSION: Final = 5
METHOD_NONE: Final = 0x00
METHODS_UNACCEPTABLE: Final = 0xFF
COMMAND_CONNECT: Final = 0x01
ADDRESS_IPV4: Final = 0x01
ADDRESS_NAME: Final = 0x03
ADDRESS_IPV6: Final = 0x04
EARLY_BYTES_MAX: Final = 64 * 1024  # what a client may send before it knows that it is connected

_REQUEST_HEAD_BYTES: Final = 4
_IPV4_BYTES: Final = 4
_IPV6_BYTES: Final = 16
_TCP_PORT_BYTES: Final = 2


class Reply(IntEnum):
    """How a request ended (RFC 1928 §6)."""

    SUCCEEDED = 0x00
    GENERAL_FAILURE = 0x01
    NOT_ALLOWED = 0x02
    NETWORK_UNREACHABLE = 0x03
    HOST_UNREACHABLE = 0x04
    CONNECTION_REFUSED = 0x05
    TTL_EXPIRED = 0x06
    COMMAND_UNSUPPORTED = 0x07
    ADDRESS_UNSUPPORTED = 0x08


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes to the client."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect there, then answer with `encode_reply`. The handshake is over."""

    address: str
    tcp_port: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """Send these bytes (perhaps none), then close. The handshake is over."""

    data: bytes
    reason: str


Command = Send | Dial | Refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What clients may reach.

    Attributes:
        addresses: Literal addresses by every name a client may use, each address under itself too.
        tcp_ports: The ports of each.
    """

    addresses: Mapping[str, str]
    tcp_ports: frozenset[int]

    def find(self, host: str, tcp_port: int) -> str | None:
        """Return the literal address to dial, or None when that is not allowed."""
        return self.addresses.get(host) if tcp_port in self.tcp_ports else None


def encode_reply(reply: Reply) -> bytes:
    """Answer a request. The bound address is left out (zeros): it is nobody's business."""
    return bytes((VERSION, reply, 0, ADDRESS_IPV4, 0, 0, 0, 0, 0, 0))


class _Step(Enum):
    METHODS = "methods"
    REQUEST = "request"
    DECIDED = "decided"


class Handshake:
    """One client's way to a connection. Feed it everything that arrives until it decides."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._step = _Step.METHODS
        self._buffer = bytearray()

    @property
    def is_decided(self) -> bool:
        """Whether `Dial` or `Refuse` was returned."""
        return self._step is _Step.DECIDED

    @property
    def early(self) -> bytes:
        """Bytes of the connection that came with the handshake. Meaningful once decided."""
        return bytes(self._buffer)

    def receive(self, data: bytes) -> list[Command]:
        """Take what arrived; return what to do, in order."""
        self._buffer += data
        commands: list[Command] = []
        while not self.is_decided:
            is_greeting = self._step is _Step.METHODS
            command = self._greeting() if is_greeting else self._request()
            if command is None:
                break
            commands.append(command)
        if self.is_decided and len(self._buffer) > EARLY_BYTES_MAX:
            return [self._refuse(b"", "sent too much before it was connected")]
        return commands

    def _greeting(self) -> Command | None:
        buffer = self._buffer
        if buffer[:1] and buffer[0] != VERSION:
            return self._refuse(b"", f"speaks version {buffer[0]}, not {VERSION}")
        if len(buffer) < 2 or len(buffer) < 2 + buffer[1]:  # noqa: PLR2004  # version, count
            return None
        methods = bytes(buffer[2 : 2 + buffer[1]])
        del buffer[: 2 + len(methods)]
        if METHOD_NONE not in methods:
            answer = bytes((VERSION, METHODS_UNACCEPTABLE))
            return self._refuse(answer, "insists on authentication")
        self._step = _Step.REQUEST
        return Send(bytes((VERSION, METHOD_NONE)))

    def _request(self) -> Command | None:
        buffer = self._buffer
        if buffer[:1] and buffer[0] != VERSION:
            return self._refuse_with(Reply.GENERAL_FAILURE, "changed the version")
        if len(buffer) < _REQUEST_HEAD_BYTES:
            return None
        if buffer[1] != COMMAND_CONNECT:
            return self._refuse_with(Reply.COMMAND_UNSUPPORTED, f"asked for command {buffer[1]}")
        if buffer[2] != 0:
            return self._refuse_with(Reply.GENERAL_FAILURE, "set the reserved byte")
        start = _REQUEST_HEAD_BYTES
        match buffer[3]:
            case 0x01:
                length = _IPV4_BYTES
            case 0x04:
                length = _IPV6_BYTES
            case 0x03:
                if len(buffer) <= start:
                    return None
                length = buffer[start]
                start += 1
            case kind:
                return self._refuse_with(Reply.ADDRESS_UNSUPPORTED, f"sent address type {kind}")
        end = start + length
        if len(buffer) < end + _TCP_PORT_BYTES:
            return None
        host = _host_of(buffer[3], bytes(buffer[start:end]))
        tcp_port = int.from_bytes(buffer[end : end + _TCP_PORT_BYTES], "big")
        del buffer[: end + _TCP_PORT_BYTES]
        address = None if host is None else self._rules.find(host, tcp_port)
        if address is None:
            return self._refuse_with(Reply.NOT_ALLOWED, f"asked for {host!r} port {tcp_port}")
        self._step = _Step.DECIDED
        return Dial(address, tcp_port)

    def _refuse_with(self, reply: Reply, reason: str) -> Refuse:
        return self._refuse(encode_reply(reply), reason)

    def _refuse(self, data: bytes, reason: str) -> Refuse:
        self._step = _Step.DECIDED
        self._buffer.clear()
        return Refuse(data, reason)


def _host_of(kind: int, data: bytes) -> str | None:
    """Spell an address as `Rules` does; None when a name is no text."""
    match kind:
        case 0x01:
            return str(ipaddress.IPv4Address(data))
        case 0x04:
            return str(ipaddress.IPv6Address(data))
        case _:
            return data.decode("ascii").lower() if data.isascii() else None
