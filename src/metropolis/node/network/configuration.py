# SPDX-License-Identifier: Apache-2.0
"""A network configuration as values that can only be right. See `configuration_check`."""

from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from metropolis.host.network import BondSettings, IpAddress, IpInterface, IpNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMatch:
    """Which device. All given criteria must hold; None means any.

    Attributes:
        position: Which of the matching devices, from 0, in the order of the bus.
    """

    hardware_address: bytes | None = None
    driver: str | None = None
    position: int = 0

    @override
    def __str__(self) -> str:
        """Spell it for people."""
        criteria: list[str] = []
        if self.hardware_address is not None:
            criteria.append(f"hardware address {self.hardware_address.hex(':')}")
        if self.driver is not None:
            criteria.append(f"driver {self.driver}")
        criteria.append(f"index {self.position}")
        return ", ".join(criteria)


@dataclass(frozen=True, slots=True, kw_only=True)
class BondOf:
    """Several interfaces used as one."""

    members: Sequence[str]
    settings: BondSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class VlanOf:
    """A tagged network on another interface."""

    parent: str
    vlan_id: int
    is_service: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticRoute:
    """A way to a network, see `metropolis.host.network.Route`."""

    destination: IpNetwork
    gateway: IpAddress | None
    source: IpAddress | None
    metric: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceConfiguration:
    """One interface.

    Attributes:
        ipv6_privacy: How temporary addresses are used (0 not, 1 avoided, 2 preferred); None: no
            IPv6 addresses from router advertisements at all.
        mtu_bytes: None keeps the device's own.
    """

    name: str
    kind: DeviceMatch | BondOf | VlanOf
    uses_dhcp: bool = False
    ipv6_privacy: int | None = None
    addresses: Sequence[IpInterface] = ()
    routes: Sequence[StaticRoute] = ()
    mtu_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfiguration:
    """All of it.

    Attributes:
        interfaces: As configured; this order says which address is the external one.
        order: Names in the order in which the interfaces can be set up: a bond before its
            members, a VLAN after its parent.
    """

    interfaces: Sequence[InterfaceConfiguration]
    name_servers: Sequence[IpAddress]
    order: Sequence[str]

    def interface(self, name: str) -> InterfaceConfiguration:
        """The interface of a name that exists."""
        return next(each for each in self.interfaces if each.name == name)
