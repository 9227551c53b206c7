# SPDX-License-Identifier: Apache-2.0
"""Reads a `Net` message. All that is wrong with it is told at once, by the names of its fields."""

import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, final

from metropolis.api import net_pb2
from metropolis.base.errors import InvalidArgumentError
from metropolis.host.network import IpAddress, IpInterface, IpNetwork
from metropolis.node.network.bond_check import read_bond
from metropolis.node.network.configuration import (
    BondOf,
    DeviceMatch,
    InterfaceConfiguration,
    NetworkConfiguration,
    StaticRoute,
    VlanOf,
)
from metropolis.node.network.problems import Problems

T = TypeVar("T")

NAME_BYTES_MAX: Final = 15  # IFNAMSIZ without its zero
MTU_BYTES_MIN: Final = 1280
MTU_BYTES_MAX: Final = 65535
VLAN_ID_MAX: Final = 4094
METRIC_MAX: Final = 0x7FFFFFFF
INTERFACES_MAX: Final = 128
_HARDWARE_ADDRESS: Final = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_RESERVED_NAMES: Final = {".", "..", "lo", "all", "default", "clusternet"}
_REMEDY: Final = "Correct these fields of the network configuration and give it to the node again."


@final
class NetworkConfigurationError(InvalidArgumentError):
    """A network configuration that cannot work. `problems` has one line per wrong field."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(f"network configuration: {'; '.join(problems)}", remedy=_REMEDY)
        self.problems = tuple(problems)


def read_configuration(net: net_pb2.Net) -> NetworkConfiguration:
    """Check a configuration and return what it means.

    Raises:
        NetworkConfigurationError: with every problem that it has.
    """
    problems = Problems()
    if not 0 < len(net.interface) <= INTERFACES_MAX:
        problems.add("interface", f"has {len(net.interface)} entries, not 1 to {INTERFACES_MAX}")
    interfaces = [
        _read_interface(interface, f"interface[{number}]", problems)
        for number, interface in enumerate(net.interface[:INTERFACES_MAX])
    ]
    name_servers = [
        server
        for number, each in enumerate(net.nameserver)
        if (server := _address(each.ip, f"nameserver[{number}].ip", problems)) is not None
    ]
    _check_names(interfaces, problems)
    _check_references(interfaces, problems)
    order = _order(interfaces, problems)
    if problems.found:
        raise NetworkConfigurationError(problems.found)
    return NetworkConfiguration(
        interfaces=tuple(interfaces), name_servers=tuple(name_servers), order=tuple(order)
    )


def _read_interface(
    interface: net_pb2.Interface, path: str, problems: Problems
) -> InterfaceConfiguration:
    name = interface.name
    if (fault := _name_fault(name)) is not None:
        problems.add(f"{path}.name", fault)
    kind: DeviceMatch | BondOf | VlanOf
    match interface.WhichOneof("type"):
        case "device":
            kind = _read_device(interface.device, f"{path}.device", problems)
        case "bond":
            kind = read_bond(interface.bond, f"{path}.bond", problems)
        case "vlan":
            kind = _read_vlan(interface.vlan, f"{path}.vlan", problems)
        case _:
            problems.add(path, "is neither a device, nor a bond, nor a vlan")
            kind = DeviceMatch()
    mtu_bytes = interface.mtu
    if mtu_bytes and not MTU_BYTES_MIN <= mtu_bytes <= MTU_BYTES_MAX:
        problems.add(f"{path}.mtu", f"{mtu_bytes} is not {MTU_BYTES_MIN} to {MTU_BYTES_MAX}")
    has_ipv6 = interface.HasField("ipv6_autoconfig")
    privacy = interface.ipv6_autoconfig.privacy
    if has_ipv6 and privacy not in net_pb2.IPv6Autoconfig.Privacy.values():
        problems.add(f"{path}.ipv6_autoconfig.privacy", f"{privacy} is unknown")
    addresses = [
        _read(ipaddress.ip_interface, text, f"{path}.address[{number}]", problems)
        for number, text in enumerate(interface.address)
    ]
    usable = [each for each in addresses if each is not None]
    for number, each in enumerate(addresses):
        if each is not None and (fault := _host_fault(each)) is not None:
            problems.add(f"{path}.address[{number}]", f"{each} {fault}")
    routes = [
        route
        for number, each in enumerate(interface.route)
        if (route := _read_route(each, f"{path}.route[{number}]", problems)) is not None
    ]
    return InterfaceConfiguration(
        name=name,
        kind=kind,
        uses_dhcp=interface.HasField("ipv4_autoconfig"),
        ipv6_privacy=privacy if has_ipv6 else None,
        addresses=tuple(usable),
        routes=tuple(routes),
        mtu_bytes=mtu_bytes or None,
    )


def _name_fault(name: str) -> str | None:
    if not name:
        return "is empty"
    if len(name.encode()) > NAME_BYTES_MAX:
        return f"{name!r} is longer than {NAME_BYTES_MAX} bytes"
    if name in _RESERVED_NAMES:
        return f"{name!r} is reserved"
    if not name.isascii() or not name.isprintable() or any(each in "/:% " for each in name):
        return f"{name!r} has a character that link names cannot have"
    return None


def _read_device(device: net_pb2.Device, path: str, problems: Problems) -> DeviceMatch:
    text = device.hardware_address
    if text and not _HARDWARE_ADDRESS.fullmatch(text):
        problems.add(f"{path}.hardware_address", f"{text!r} is not like aa:bb:cc:dd:ee:ff")
        text = ""
    if device.index < 0:
        problems.add(f"{path}.index", f"{device.index} is negative")
    return DeviceMatch(
        hardware_address=bytes.fromhex(text.replace(":", "")) if text else None,
        driver=device.driver or None,
        position=device.index,
    )


def _read_vlan(vlan: net_pb2.VLAN, path: str, problems: Problems) -> VlanOf:
    if not 1 <= vlan.id <= VLAN_ID_MAX:
        problems.add(f"{path}.id", f"{vlan.id} is not 1 to {VLAN_ID_MAX}")
    if vlan.protocol not in net_pb2.VLAN.Protocol.values():
        problems.add(f"{path}.protocol", f"{vlan.protocol} is unknown")
    is_service = vlan.protocol == net_pb2.VLAN.PROTOCOL_SVLAN
    return VlanOf(parent=vlan.parent, vlan_id=vlan.id, is_service=is_service)


def _read_route(
    route: net_pb2.Interface.Route, path: str, problems: Problems
) -> StaticRoute | None:
    destination = _read(ipaddress.ip_network, route.destination, f"{path}.destination", problems)
    gateway = _optional_address(route.gateway_ip, f"{path}.gateway_ip", problems)
    source = _optional_address(route.source_ip, f"{path}.source_ip", problems)
    if not 0 <= route.metric <= METRIC_MAX:
        problems.add(f"{path}.metric", f"{route.metric} is not 0 to {METRIC_MAX}")
    if destination is None:
        return None
    for field, address in (("gateway_ip", gateway), ("source_ip", source)):
        if address is not None and address.version != destination.version:
            problems.add(
                f"{path}.{field}", f"{address} is of another IP version than {destination}"
            )
    return StaticRoute(destination=destination, gateway=gateway, source=source, metric=route.metric)


def _host_fault(interface: IpInterface) -> str | None:
    address = interface.ip
    if address.is_unspecified or address.is_multicast or address.is_loopback:
        return "cannot be the address of a machine"
    network: IpNetwork = interface.network
    is_small = network.prefixlen >= network.max_prefixlen - 1
    if interface.version == 4 and not is_small:  # noqa: PLR2004  # IPv4
        if address == network.network_address:
            return "is the address of a whole network"
        if address == network.broadcast_address:
            return "is the broadcast address of its network"
    return None


def _optional_address(text: str, path: str, problems: Problems) -> IpAddress | None:
    return _address(text, path, problems) if text else None


def _address(text: str, path: str, problems: Problems) -> IpAddress | None:
    return _read(ipaddress.ip_address, text, path, problems)


def _read(parse: Callable[[str], T], text: str, path: str, problems: Problems) -> T | None:
    try:
        return parse(text)
    except ValueError as error:
        problems.add(path, str(error) if text else "is empty")
        return None


def _check_names(interfaces: Sequence[InterfaceConfiguration], problems: Problems) -> None:
    seen: dict[str, int] = {}
    for number, interface in enumerate(interfaces):
        if interface.name in seen and interface.name:
            first = f"interface[{seen[interface.name]}]"
            problems.add(f"interface[{number}].name", f"{interface.name!r} is that of {first}, too")
        seen.setdefault(interface.name, number)


def _check_references(interfaces: Sequence[InterfaceConfiguration], problems: Problems) -> None:
    by_name = {each.name: each for each in interfaces}
    owners: dict[str, str] = {}
    for number, interface in enumerate(interfaces):
        path = f"interface[{number}]"
        if isinstance(interface.kind, VlanOf):
            if interface.kind.parent not in by_name:
                problems.add(f"{path}.vlan.parent", f"{interface.kind.parent!r} is not configured")
        elif isinstance(interface.kind, BondOf):
            for position, member in enumerate(interface.kind.members):
                field = f"{path}.bond.member_interface[{position}]"
                found = by_name.get(member)
                if found is None:
                    problems.add(field, f"{member!r} is not configured")
                elif not isinstance(found.kind, DeviceMatch):
                    problems.add(field, f"{member!r} is not a device")
                elif found.uses_dhcp or found.addresses or found.routes:
                    problems.add(field, f"{member!r} has addresses or routes of its own")
                if member in owners:
                    problems.add(field, f"{member!r} belongs to {owners[member]!r} already")
                owners.setdefault(member, interface.name)


def _order(interfaces: Sequence[InterfaceConfiguration], problems: Problems) -> Sequence[str]:
    """Sort by what must be there first; by name where that leaves a choice."""
    waits: dict[str, set[str]] = {each.name: set() for each in interfaces}
    for each in interfaces:
        if isinstance(each.kind, VlanOf) and each.kind.parent in waits:
            waits[each.name].add(each.kind.parent)
        elif isinstance(each.kind, BondOf):
            for member in each.kind.members:
                if member in waits:
                    waits[member].add(each.name)
    order: list[str] = []
    while ready := sorted(name for name, needs in waits.items() if needs <= set(order)):
        order.append(ready[0])
        del waits[ready[0]]
    if waits:
        problems.add("interface", f"{', '.join(sorted(waits))} need each other in a circle")
    return order
