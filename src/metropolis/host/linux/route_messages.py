# SPDX-License-Identifier: Apache-2.0
"""Links, addresses and routes as rtnetlink messages.

Source: linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h; `man 7 rtnetlink`.
"""

import ipaddress
import socket
import struct
from typing import Final

from metropolis.host.linux.netlink import (
    attribute,
    integer,
    nested,
    read_attributes,
    text,
    u8,
    u16,
    u32,
)
from metropolis.host.network import (
    BondSettings,
    IpAddress,
    IpInterface,
    IpNetwork,
    Link,
    LinkAddress,
    Route,
)

NEW_LINK: Final = 16
DELETE_LINK: Final = 17
GET_LINK: Final = 18
NEW_ADDRESS: Final = 20
DELETE_ADDRESS: Final = 21
GET_ADDRESS: Final = 22
NEW_ROUTE: Final = 24
DELETE_ROUTE: Final = 25
GET_ROUTE: Final = 26

_LINK: Final = struct.Struct("=BxHiII")  # family, device type, index, flags, change mask
_ADDRESS: Final = struct.Struct("=BBBBI")  # family, prefix, flags, scope, index
_ROUTE: Final = struct.Struct("=BBBBBBBBI")  # family, prefixes, TOS, table, maker, scope, …
_CACHE: Final = struct.Struct("=IIII")  # preferred, valid, created, changed

_FLAG_UP: Final = 0x1
_FLAG_LOWER_UP: Final = 0x10000
_ETHERNET: Final = 1
_ADDRESS_BYTES: Final = 6
_FOREVER: Final = 0xFFFFFFFF
_NO_PREFIX_ROUTE: Final = 0x200
_TABLE_MAIN: Final = 254
_SCOPE_UNIVERSE: Final = 0
_SCOPE_LINK: Final = 253
_SCOPE_NOWHERE: Final = 255
_UNICAST: Final = 1
_ON_LINK: Final = 4
_ETHERTYPE_VLAN: Final = 0x8100
_ETHERTYPE_SERVICE_VLAN: Final = 0x88A8


def encode_link(
    *,
    index: int = 0,
    is_up: bool | None = None,
    name: str | None = None,
    mtu_bytes: int | None = None,
    master: int | None = None,
) -> bytes:
    """Spell a link to change, to find, or to make."""
    flags = _FLAG_UP if is_up else 0
    body = _LINK.pack(socket.AF_UNSPEC, 0, index, flags, 0 if is_up is None else _FLAG_UP)
    if name is not None:
        body += text(3, name)  # IFLA_IFNAME
    if mtu_bytes is not None:
        body += u32(4, mtu_bytes)  # IFLA_MTU
    if master is not None:
        body += u32(10, master)  # IFLA_MASTER
    return body


def encode_bond(name: str, settings: BondSettings) -> bytes:
    """Spell a bond to make. The order of its settings is that in which the kernel needs them."""
    data = [u8(1, settings.mode)]
    if settings.poll_ms is not None:
        data.append(u32(3, settings.poll_ms))
    if settings.up_delay_ms is not None:
        data.append(u32(4, settings.up_delay_ms))
    if settings.down_delay_ms is not None:
        data.append(u32(5, settings.down_delay_ms))
    if settings.uses_carrier is not None:
        data.append(u8(6, int(settings.uses_carrier)))
    if settings.hash_policy is not None:
        data.append(u8(14, settings.hash_policy))
    if settings.min_links is not None:
        data.append(u32(18, settings.min_links))
    if settings.lacp_rate is not None:
        data.append(u8(21, settings.lacp_rate))
    if settings.selection is not None:
        data.append(u8(22, settings.selection))
    if settings.system_priority is not None:
        data.append(u16(24, settings.system_priority))
    if settings.user_port_key is not None:
        data.append(u16(25, settings.user_port_key))
    if settings.system_address is not None:
        data.append(attribute(26, settings.system_address))
    return encode_link(name=name) + _link_info("bond", *data)


def encode_vlan(name: str, *, parent: int, vlan_id: int, is_service: bool) -> bytes:
    """Spell a VLAN to make."""
    ethertype = _ETHERTYPE_SERVICE_VLAN if is_service else _ETHERTYPE_VLAN
    info = _link_info("vlan", u16(1, vlan_id), attribute(5, ethertype.to_bytes(2, "big")))
    return encode_link(name=name) + u32(5, parent) + info  # IFLA_LINK


def _link_info(kind: str, *data: bytes) -> bytes:
    return nested(18, text(1, kind), nested(2, *data))  # IFLA_LINKINFO: KIND, DATA


def decode_link(body: bytes) -> Link:
    """Read a link; driver and place are not in the message."""
    _, kind, index, flags, _ = _LINK.unpack_from(body)
    found = read_attributes(body[_LINK.size :])
    hardware_address = found.get(1, b"")  # IFLA_ADDRESS
    info = read_attributes(found.get(18, b""))
    return Link(
        index=index,
        name=found.get(3, b"").rstrip(b"\0").decode("ascii", "replace"),
        hardware_address=hardware_address,
        permanent_hardware_address=found.get(54, b""),  # IFLA_PERM_ADDRESS
        kind=info.get(1, b"").rstrip(b"\0").decode("ascii", "replace"),
        is_ethernet=kind == _ETHERNET and len(hardware_address) == _ADDRESS_BYTES,
        is_up=bool(flags & _FLAG_UP),
        has_carrier=bool(flags & _FLAG_UP) and bool(flags & _FLAG_LOWER_UP),
        carrier_losses=integer(found, 48),  # IFLA_CARRIER_DOWN_COUNT
        mtu_bytes=integer(found, 4),
        master=integer(found, 10),
    )


def encode_address(address: LinkAddress) -> bytes:
    """Spell an address to add, change or remove."""
    interface = address.interface
    packed = interface.ip.packed
    body = _ADDRESS.pack(
        _family(interface), interface.network.prefixlen, 0, _SCOPE_UNIVERSE, address.link_index
    )
    body += attribute(2, packed) + attribute(1, packed)  # IFA_LOCAL, IFA_ADDRESS
    if address.broadcast is not None:
        body += attribute(4, address.broadcast.packed)  # IFA_BROADCAST
    valid_s = _FOREVER if address.valid_s is None else address.valid_s
    body += attribute(6, _CACHE.pack(valid_s, valid_s, 0, 0))  # IFA_CACHEINFO
    if not address.has_prefix_route:
        body += u32(8, _NO_PREFIX_ROUTE)  # IFA_FLAGS
    return body


def encode_address_filter(index: int) -> bytes:
    """Spell the addresses of one link, all families."""
    return _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, index)


def decode_address(body: bytes) -> LinkAddress | None:
    """Read an address; None for a family that is not IP."""
    family, prefix_bits, _, _, index = _ADDRESS.unpack_from(body)
    found = read_attributes(body[_ADDRESS.size :])
    packed = found.get(2) or found.get(1, b"")
    if family not in {socket.AF_INET, socket.AF_INET6} or not packed:
        return None
    valid_s = _FOREVER
    if 6 in found:  # noqa: PLR2004  # IFA_CACHEINFO
        _, valid_s, _, _ = _CACHE.unpack_from(found[6])
    broadcast = found.get(4)
    return LinkAddress(
        link_index=index,
        interface=ipaddress.ip_interface((packed, prefix_bits)),
        broadcast=None if broadcast is None else ipaddress.IPv4Address(broadcast),
        valid_s=None if valid_s == _FOREVER else valid_s,
        has_prefix_route=not integer(found, 8) & _NO_PREFIX_ROUTE,
    )


def encode_route(route: Route) -> bytes:
    """Spell a route of the main table to add, replace or remove."""
    destination = route.destination
    body = _ROUTE.pack(
        _family(destination),
        destination.prefixlen,
        0,
        0,
        _TABLE_MAIN,
        route.protocol,
        _SCOPE_LINK if route.gateway is None and destination.version == 4 else _SCOPE_UNIVERSE,  # noqa: PLR2004  # IPv4
        _UNICAST,
        0 if route.gateway is None else _ON_LINK,
    )
    if destination.prefixlen:
        body += attribute(1, destination.network_address.packed)  # RTA_DST
    body += u32(4, route.link_index)  # RTA_OIF
    if route.gateway is not None:
        body += attribute(5, route.gateway.packed)  # RTA_GATEWAY
    if route.metric:
        body += u32(6, route.metric)  # RTA_PRIORITY
    if route.source is not None:
        body += attribute(7, route.source.packed)  # RTA_PREFSRC
    return body


def encode_route_filter(index: int, protocol: int) -> bytes:
    """Spell the routes of the main table through one link, by one maker."""
    fixed = _ROUTE.pack(socket.AF_UNSPEC, 0, 0, 0, _TABLE_MAIN, protocol, 0, 0, 0)
    return fixed + u32(4, index)


def decode_route(body: bytes) -> Route | None:
    """Read a route; None if it is not a plain one of the main table."""
    family, bits, _, _, table, protocol, _, kind, _ = _ROUTE.unpack_from(body)
    found = read_attributes(body[_ROUTE.size :])
    if family not in {socket.AF_INET, socket.AF_INET6} or kind != _UNICAST:
        return None
    if table != _TABLE_MAIN or 4 not in found:  # noqa: PLR2004  # RTA_OIF
        return None
    size = 4 if family == socket.AF_INET else 16
    return Route(
        link_index=integer(found, 4),
        destination=ipaddress.ip_network((found.get(1, bytes(size)), bits)),
        gateway=_address(found.get(5)),
        source=_address(found.get(7)),
        metric=integer(found, 6),
        protocol=protocol,
    )


def _address(packed: bytes | None) -> IpAddress | None:
    return None if packed is None else ipaddress.ip_address(packed)


def _family(value: IpInterface | IpNetwork) -> int:
    return socket.AF_INET if value.version == 4 else socket.AF_INET6  # noqa: PLR2004  # IPv4
