# SPDX-License-Identifier: Apache-2.0
"""IPv4 and UDP around a DHCP message, for a client that has no address yet.

Source: RFC 791, RFC 768, RFC 1071.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from metropolis.protocols.dhcp4.message import (
    CLIENT_UDP_PORT,
    SERVER_UDP_PORT,
    MalformedMessageError,
)

BROADCAST: Final = IPv4Address("255.255.255.255")
TRAFFIC_CLASS: Final = 0xE0  # DSCP CS7, network control: it must get through a full link

_IP: Final = struct.Struct("!BBHHHBBH4s4s")
_UDP: Final = struct.Struct("!HHHH")
_VERSION_AND_WORDS: Final = 0x45  # IPv4, header of five words: no options
_UDP_PROTOCOL: Final = 17
_LIFETIME_HOPS: Final = 64
_DO_NOT_FRAGMENT: Final = 0x4000
_FRAGMENT_MASK: Final = 0x3FFF  # more fragments, or an offset
_ALL_ONES: Final = 0xFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Datagram:
    """A received UDP datagram for the DHCP client's port."""

    source: IPv4Address
    destination: IPv4Address
    payload: bytes


def encode_packet(
    payload: bytes, *, source: IPv4Address, destination: IPv4Address = BROADCAST
) -> bytes:
    """Return the IPv4 packet that carries a client's message to servers."""
    udp_bytes = _UDP.size + len(payload)
    udp = _UDP.pack(CLIENT_UDP_PORT, SERVER_UDP_PORT, udp_bytes, 0) + payload
    pseudo = _pseudo_header(source.packed, destination.packed, udp_bytes)
    check = _checksum(pseudo + udp) or _ALL_ONES  # 0 would say that there is none
    udp = udp[:6] + check.to_bytes(2, "big") + payload
    head = _IP.pack(
        _VERSION_AND_WORDS,
        TRAFFIC_CLASS,
        _IP.size + udp_bytes,
        0,
        _DO_NOT_FRAGMENT,
        _LIFETIME_HOPS,
        _UDP_PROTOCOL,
        0,
        source.packed,
        destination.packed,
    )
    return head[:10] + _checksum(head).to_bytes(2, "big") + head[12:] + udp


def decode_packet(data: bytes) -> Datagram:
    """Read an IPv4 packet that should carry a server's message.

    A wrong UDP checksum is refused, unless it is the partial sum that a virtual device leaves for
    hardware that never comes.

    Raises:
        MalformedMessageError: it is a fragment, not UDP, not for our port, cut, or damaged.
    """
    if len(data) < _IP.size:
        raise MalformedMessageError("too short for an IPv4 header")
    first, _, total, _, fragment, _, protocol, _, source, destination = _IP.unpack_from(data)
    head_bytes = (first & 0x0F) * 4
    if first >> 4 != 4 or head_bytes < _IP.size or total > len(data):  # noqa: PLR2004  # IPv4
        raise MalformedMessageError("not a whole IPv4 packet")
    if protocol != _UDP_PROTOCOL or fragment & _FRAGMENT_MASK:
        raise MalformedMessageError("not a whole UDP datagram")
    if total < head_bytes + _UDP.size or _checksum(data[:head_bytes]) != 0:
        raise MalformedMessageError("the IPv4 header is damaged")
    udp = data[head_bytes:total]
    _, port, udp_bytes, check = _UDP.unpack_from(udp)
    if port != CLIENT_UDP_PORT or not _UDP.size <= udp_bytes <= len(udp):
        raise MalformedMessageError("not a datagram for a DHCP client")
    udp = udp[:udp_bytes]
    pseudo = _pseudo_header(source, destination, udp_bytes)
    is_partial = check == ~_checksum(pseudo) & _ALL_ONES  # virtual devices leave the rest undone
    if check != 0 and not is_partial and _checksum(pseudo + udp) != 0:
        raise MalformedMessageError("the UDP checksum is wrong")
    return Datagram(
        source=IPv4Address(source),
        destination=IPv4Address(destination),
        payload=udp[_UDP.size :],
    )


def _pseudo_header(source: bytes, destination: bytes, udp_bytes: int) -> bytes:
    return source + destination + struct.pack("!BBH", 0, _UDP_PROTOCOL, udp_bytes)


def _checksum(data: bytes) -> int:
    """Return the Internet checksum; 0 over data that holds its own correct one."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > _ALL_ONES:
        total = (total & _ALL_ONES) + (total >> 16)
    return ~total & _ALL_ONES
