# SPDX-License-Identifier: Apache-2.0
"""DHCP messages as bytes.

Source: RFC 2131 section 2 (layout), RFC 2132 (options), RFC 3396 (options in several pieces).
"""

import enum
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

CLIENT_UDP_PORT: Final = 68
SERVER_UDP_PORT: Final = 67
HARDWARE_ADDRESS_BYTES: Final = 6  # Ethernet; we speak nothing else
MESSAGE_BYTES_MAX: Final = 1472  # what one Ethernet frame carries

_FIXED: Final = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_COOKIE: Final = bytes([99, 130, 83, 99])
_BOOTP_BYTES_MIN: Final = 300  # RFC 951: relays drop what is shorter
_ETHERNET: Final = 1
_BROADCAST_FLAG: Final = 0x8000
_PIECE_BYTES_MAX: Final = 255
_NOWHERE: Final = IPv4Address(0)
_OVERLOAD_FILE: Final = 1
_OVERLOAD_NAME: Final = 2


class MalformedMessageError(ValueError):
    """These bytes are no DHCP message, or no packet that could carry one."""


class MessageType(enum.IntEnum):
    """Option 53."""

    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7
    INFORM = 8


class Option(enum.IntEnum):
    """The options that we send or understand (RFC 2132 unless noted)."""

    PAD = 0
    SUBNET_MASK = 1
    ROUTER = 3
    NAME_SERVERS = 6
    INTERFACE_MTU = 26
    BROADCAST_ADDRESS = 28
    TIME_SERVERS = 42
    REQUESTED_ADDRESS = 50
    LEASE_TIME = 51
    OVERLOAD = 52
    MESSAGE_TYPE = 53
    SERVER_IDENTIFIER = 54
    PARAMETERS = 55
    TEXT = 56
    MESSAGE_BYTES_MAX = 57
    RENEWAL_TIME = 58
    REBINDING_TIME = 59
    VENDOR_CLASS = 60
    CLIENT_IDENTIFIER = 61
    RAPID_COMMIT = 80  # RFC 4039
    CLASSLESS_ROUTES = 121  # RFC 3442
    END = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message. `options` maps the option's number to its whole content.

    Attributes:
        is_reply: From a server.
        transaction: 32 bits that tie an answer to its question (xid).
        hardware_address: 6 bytes, whose lease this is about (chaddr).
        elapsed_s: For how long the client has been asking, whole seconds (secs).
        client_address: What the client uses already (ciaddr).
        your_address: What the server offers or grants (yiaddr).
    """

    is_reply: bool
    transaction: int
    hardware_address: bytes
    elapsed_s: int = 0
    wants_broadcast: bool = False
    client_address: IPv4Address = _NOWHERE
    your_address: IPv4Address = _NOWHERE
    server_address: IPv4Address = _NOWHERE
    relay_address: IPv4Address = _NOWHERE
    options: Mapping[int, bytes] = field(default_factory=dict[int, bytes])

    @property
    def type(self) -> MessageType | None:
        """Option 53; None when it is absent or unknown."""
        value = self.options.get(Option.MESSAGE_TYPE, b"")
        try:
            return MessageType(value[0]) if len(value) == 1 else None
        except ValueError:
            return None

    def address_option(self, option: Option) -> IPv4Address | None:
        """Return an option that holds one address; None when absent or of another size."""
        value = self.options.get(option, b"")
        return IPv4Address(value) if len(value) == len(_NOWHERE.packed) else None


def encode(message: Message) -> bytes:
    """Return the payload of the UDP datagram."""
    assert len(message.hardware_address) == HARDWARE_ADDRESS_BYTES
    fixed = _FIXED.pack(
        2 if message.is_reply else 1,
        _ETHERNET,
        HARDWARE_ADDRESS_BYTES,
        0,
        message.transaction,
        message.elapsed_s,
        _BROADCAST_FLAG if message.wants_broadcast else 0,
        message.client_address.packed,
        message.your_address.packed,
        message.server_address.packed,
        message.relay_address.packed,
        message.hardware_address,
        b"",
        b"",
        _COOKIE,
    )
    pieces = [fixed]
    for number, value in message.options.items():
        assert Option.PAD < number < Option.END
        for start in range(0, max(len(value), 1), _PIECE_BYTES_MAX):
            piece = value[start : start + _PIECE_BYTES_MAX]
            pieces.append(bytes([number, len(piece)]) + piece)
    pieces.append(bytes([Option.END]))
    return b"".join(pieces).ljust(_BOOTP_BYTES_MIN, b"\0")


def decode(data: bytes) -> Message:
    """Read the payload of a UDP datagram.

    Raises:
        MalformedMessageError: it is too short, not for Ethernet, or an option overruns its field.
    """
    if len(data) < _FIXED.size:
        raise MalformedMessageError(f"{len(data)} bytes are no DHCP message")
    operation, kind, length, _, transaction, elapsed_s, flags, *rest = _FIXED.unpack_from(data)
    client, yours, server, relay, hardware, name, file, cookie = rest
    if cookie != _COOKIE:
        raise MalformedMessageError("the magic cookie is missing: BOOTP, not DHCP")
    if operation not in {1, 2} or kind != _ETHERNET or length != HARDWARE_ADDRESS_BYTES:
        raise MalformedMessageError("the message is not about an Ethernet device")
    options: dict[int, bytes] = {}
    _collect(data[_FIXED.size :], options)
    overload = options.get(Option.OVERLOAD, b"\0")[:1]
    if overload and overload[0] & _OVERLOAD_FILE:
        _collect(file, options)
    if overload and overload[0] & _OVERLOAD_NAME:
        _collect(name, options)
    return Message(
        is_reply=operation == 2,  # noqa: PLR2004  # BOOTREPLY
        transaction=transaction,
        hardware_address=hardware[:HARDWARE_ADDRESS_BYTES],
        elapsed_s=elapsed_s,
        wants_broadcast=bool(flags & _BROADCAST_FLAG),
        client_address=IPv4Address(client),
        your_address=IPv4Address(yours),
        server_address=IPv4Address(server),
        relay_address=IPv4Address(relay),
        options=options,
    )


def _collect(data: bytes, options: dict[int, bytes]) -> None:
    """Add the options of one field; pieces of the same option are joined (RFC 3396)."""
    for number, value in _walk(data):
        options[number] = options.get(number, b"") + value


def _walk(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        number = data[position]
        position += 1
        if number == Option.PAD:
            continue
        if number == Option.END:
            return
        if position == len(data) or position + 1 + data[position] > len(data):
            raise MalformedMessageError(f"option {number} is longer than its message")
        end = position + 1 + data[position]
        yield number, data[position + 1 : end]
        position = end
