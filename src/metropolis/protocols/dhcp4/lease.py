# SPDX-License-Identifier: Apache-2.0
"""What a server offers or grants, judged before anybody believes it.

Source: RFC 2132 (options), RFC 3442 (classless static routes).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, NetmaskValueError
from typing import Final

from metropolis.protocols.dhcp4.message import Message, Option

RENEW_FRACTION: Final = 0.5  # of the lease, when the server does not say (RFC 2131, T1)
REBIND_FRACTION: Final = 0.85  # T2; the RFC says 0.875
LEASE_S_MIN: Final = 1
SERVERS_MAX: Final = 8  # of one kind; nobody asks more
ROUTES_MAX: Final = 64
MTU_BYTES_MIN: Final = 1280  # below it IPv6 ends; a smaller one is a mistake or an attack
MTU_BYTES_MAX: Final = 65535

_INFINITE: Final = 0xFFFFFFFF
_NOWHERE: Final = IPv4Address(0)
_ADDRESS_BYTES: Final = 4
_SECONDS_BYTES: Final = 4
_MTU_BYTES: Final = 2
_PREFIX_BITS_MAX: Final = 32
_POINT_TO_POINT_BITS: Final = 31  # from here on a subnet has no broadcast address (RFC 3021)


class RefusedLeaseError(ValueError):
    """The server's terms make no sense; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedRoute:
    """A way to other networks. Without a gateway they are on the link itself."""

    destination: IPv4Network
    gateway: IPv4Address | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Terms of one server. Durations are seconds from the request on; infinity means for ever.

    Attributes:
        mtu_bytes: What the network can carry; None when the server does not say.
    """

    address: IPv4Interface
    server: IPv4Address
    lease_s: float
    renew_s: float
    rebind_s: float
    broadcast: IPv4Address | None = None
    routes: Sequence[LeasedRoute] = ()
    name_servers: Sequence[IPv4Address] = ()
    time_servers: Sequence[IPv4Address] = ()
    mtu_bytes: int | None = None

    def __post_init__(self) -> None:
        assert self.lease_s >= LEASE_S_MIN
        assert 0 < self.renew_s <= self.rebind_s <= self.lease_s


def read_lease(message: Message) -> Lease:
    """Return the terms in a server's OFFER or ACK.

    Raises:
        RefusedLeaseError: without them no machine could use the network.
    """
    server = message.address_option(Option.SERVER_IDENTIFIER)
    if server is None or not _is_usable(server):
        raise RefusedLeaseError("the server does not say who it is")
    address = message.your_address
    if not _is_usable(address) or address == server:
        raise RefusedLeaseError(f"{address} cannot be the address of this machine")
    interface = IPv4Interface((address, _prefix_bits(message)))
    network = interface.network
    if network.prefixlen < _POINT_TO_POINT_BITS and address in {
        network.network_address,
        network.broadcast_address,
    }:
        raise RefusedLeaseError(f"{interface} is the address of a whole network")
    lease_s = _seconds(message, Option.LEASE_TIME)
    if lease_s is None or lease_s < LEASE_S_MIN:
        raise RefusedLeaseError("the lease has no duration")
    renew_s, rebind_s = _deadlines(message, lease_s)
    broadcast = message.address_option(Option.BROADCAST_ADDRESS)
    if broadcast is not None and broadcast not in network:
        broadcast = None
    return Lease(
        address=interface,
        server=server,
        lease_s=lease_s,
        renew_s=renew_s,
        rebind_s=rebind_s,
        broadcast=broadcast,
        routes=_routes(message, own=address),
        name_servers=_servers(message, Option.NAME_SERVERS),
        time_servers=_servers(message, Option.TIME_SERVERS),
        mtu_bytes=_mtu_bytes(message),
    )


def _is_usable(address: IPv4Address) -> bool:
    """Tell whether one machine can have this address."""
    first = address.packed[0]
    return first != 0 and not (address.is_loopback or address.is_multicast or address.is_reserved)


def _prefix_bits(message: Message) -> int:
    mask = message.options.get(Option.SUBNET_MASK)
    if mask is None:  # RFC 1122: the class of the address decides
        first = message.your_address.packed[0]
        return 8 if first < 128 else 16 if first < 192 else 24  # noqa: PLR2004  # classes A, B and C
    try:
        bits = IPv4Network((0, str(IPv4Address(mask)))).prefixlen
    except (NetmaskValueError, ValueError) as cause:
        raise RefusedLeaseError("the subnet mask is none") from cause
    if bits == 0 or IPv4Network((0, bits)).netmask.packed != mask:
        raise RefusedLeaseError(f"{IPv4Address(mask)} is no subnet mask")
    return bits


def _seconds(message: Message, option: Option) -> float | None:
    value = message.options.get(option, b"")
    if len(value) != _SECONDS_BYTES:
        return None
    number = int.from_bytes(value, "big")
    return math.inf if number == _INFINITE else float(number)


def _deadlines(message: Message, lease_s: float) -> tuple[float, float]:
    """T1 and T2: the server's if they make sense, else ours."""
    renew_s = _seconds(message, Option.RENEWAL_TIME)
    rebind_s = _seconds(message, Option.REBINDING_TIME)
    if math.isinf(lease_s):
        return (math.inf, math.inf)
    if rebind_s is None or not 0 < rebind_s <= lease_s:
        rebind_s = lease_s * REBIND_FRACTION
    if renew_s is None or not 0 < renew_s <= rebind_s:
        renew_s = min(lease_s * RENEW_FRACTION, rebind_s)
    return renew_s, rebind_s


def _servers(message: Message, option: Option) -> Sequence[IPv4Address]:
    """Addresses of servers in the server's order, without nonsense and repetition."""
    value = message.options.get(option, b"")
    if len(value) % _ADDRESS_BYTES:
        return ()
    found = (IPv4Address(value[at : at + 4]) for at in range(0, len(value), _ADDRESS_BYTES))
    return tuple(dict.fromkeys(each for each in found if _is_usable(each)))[:SERVERS_MAX]


def _mtu_bytes(message: Message) -> int | None:
    value = message.options.get(Option.INTERFACE_MTU, b"")
    mtu_bytes = int.from_bytes(value, "big")
    return mtu_bytes if len(value) == _MTU_BYTES and mtu_bytes >= MTU_BYTES_MIN else None


def _routes(message: Message, *, own: IPv4Address) -> Sequence[LeasedRoute]:
    """Classless routes override the router option, unless they are damaged."""
    value = message.options.get(Option.CLASSLESS_ROUTES)
    if value is not None:
        try:
            routes = tuple(dict.fromkeys(_classless(value)))
        except ValueError:
            pass
        else:
            return tuple(each for each in routes if each.gateway != own)[:ROUTES_MAX]
    routers = [each for each in _servers(message, Option.ROUTER) if each != own]
    everywhere = IPv4Network((0, 0))
    return tuple(LeasedRoute(destination=everywhere, gateway=each) for each in routers[:1])


def _classless(value: bytes) -> Iterator[LeasedRoute]:
    position = 0
    while position < len(value):
        bits = value[position]
        significant = (bits + 7) // 8
        end = position + 1 + significant + _ADDRESS_BYTES
        if bits > _PREFIX_BITS_MAX or end > len(value):
            raise ValueError("damaged")
        prefix = value[position + 1 : position + 1 + significant].ljust(_ADDRESS_BYTES, b"\0")
        gateway = IPv4Address(value[end - _ADDRESS_BYTES : end])
        if gateway != _NOWHERE and not _is_usable(gateway):
            raise ValueError("damaged")
        destination = IPv4Network((prefix, bits), strict=False)
        if not destination.is_multicast and not destination.is_loopback:
            yield LeasedRoute(
                destination=destination, gateway=None if gateway == _NOWHERE else gateway
            )
        position = end
