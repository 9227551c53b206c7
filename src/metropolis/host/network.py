# SPDX-License-Identifier: Apache-2.0
"""The network of this machine as the kernel keeps it: links, addresses, routes, and frames.

Calls answer at once and are never async: the kernel does what they ask in microseconds. What the
kernel refuses raises `FailedPreconditionError` with the kernel's own words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Protocol

IpAddress = IPv4Address | IPv6Address
IpInterface = IPv4Interface | IPv6Interface
IpNetwork = IPv4Network | IPv6Network

MAIN_METRIC = 0  # the kernel's default: 0 for IPv4, 1024 for IPv6
ROUTE_PROTOCOL_STATIC = 4  # linux/rtnetlink.h
ROUTE_PROTOCOL_DHCP = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A network device, real or made by software.

    Attributes:
        index: The kernel's number; stays the same when the link is renamed.
        hardware_address: What it uses now; empty when the kind of link has none.
        permanent_hardware_address: What its maker gave it; empty when unknown.
        kind: What software makes it, "bond", "vlan", "veth"; empty for a device.
        driver: Kernel driver of a device, empty when unknown.
        place: Where a device sits, such as "0000:00:03.0/virtio1", empty when unknown.
        is_ethernet: Speaks Ethernet, with 6-byte addresses.
        is_up: Somebody wants to use it.
        has_carrier: It is up, and there is something at the other end.
        carrier_losses: How often it lost its carrier: tells of what was too short to be seen.
        master: Index of the bond it belongs to, 0 if none.
    """

    index: int
    name: str
    hardware_address: bytes = b""
    permanent_hardware_address: bytes = b""
    kind: str = ""
    driver: str = ""
    place: str = ""
    is_ethernet: bool = True
    is_up: bool = False
    has_carrier: bool = False
    carrier_losses: int = 0
    mtu_bytes: int = 1500
    master: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkAddress:
    """An address of a link.

    Attributes:
        valid_s: Seconds until the kernel removes it; None for never.
        has_prefix_route: Its network is reached through the link.
    """

    link_index: int
    interface: IpInterface
    broadcast: IPv4Address | None = None
    valid_s: int | None = None
    has_prefix_route: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A way to a network.

    Attributes:
        gateway: None when the network is on the link itself. It need not be in any network of ours.
        source: Which address we use on that way; None lets the kernel choose.
        protocol: Who made it, see `ROUTE_PROTOCOL_DHCP`.
    """

    link_index: int
    destination: IpNetwork
    gateway: IpAddress | None = None
    source: IpAddress | None = None
    metric: int = MAIN_METRIC
    protocol: int = ROUTE_PROTOCOL_STATIC


@dataclass(frozen=True, slots=True, kw_only=True)
class BondSettings:
    """How a bond works, in the kernel's numbers (linux/if_link.h, IFLA_BOND_*). None: default."""

    mode: int
    hash_policy: int | None = None
    min_links: int | None = None
    poll_ms: int | None = None
    up_delay_ms: int | None = None
    down_delay_ms: int | None = None
    uses_carrier: bool | None = None
    lacp_rate: int | None = None
    selection: int | None = None
    system_priority: int | None = None
    user_port_key: int | None = None
    system_address: bytes | None = None


class LinkChanges(Protocol):
    """Tells that links or addresses changed, never how: look at them again."""

    async def receive(self) -> None:
        """Wait until something changed since the last call. Cancel-safe, one caller."""
        ...

    def close(self) -> None: ...


class Links(Protocol):
    """The links of this machine."""

    def links(self) -> Sequence[Link]:
        """All links, by index."""
        ...

    def change_link(
        self,
        index: int,
        *,
        is_up: bool | None = None,
        name: str | None = None,
        mtu_bytes: int | None = None,
        master: int | None = None,
    ) -> None:
        """Change what is not None. `master` 0 takes the link out of its bond."""
        ...

    def create_bond(self, name: str, settings: BondSettings) -> None: ...

    def create_vlan(self, name: str, *, parent: int, vlan_id: int, is_service: bool) -> None:
        """Make a tagged network on a link; `is_service` for IEEE 802.1ad instead of 802.1Q."""
        ...

    def delete_link(self, index: int) -> None:
        """Remove a link that software made; it is fine when it is not there."""
        ...

    def addresses(self, index: int) -> Sequence[LinkAddress]: ...

    def put_address(self, address: LinkAddress) -> None:
        """Add an address, or change the life of one that is there."""
        ...

    def remove_address(self, address: LinkAddress) -> None:
        """Remove an address; it is fine when it is not there."""
        ...

    def routes(self, index: int, protocol: int) -> Sequence[Route]:
        """Routes of the main table through a link that `protocol` made."""
        ...

    def put_route(self, route: Route) -> None:
        """Add a route, instead of one with the same destination and metric."""
        ...

    def remove_route(self, route: Route) -> None:
        """Remove a route; it is fine when it is not there."""
        ...

    def watch(self) -> LinkChanges:
        """Start to watch. Close the result."""
        ...


class DhcpSocket(Protocol):
    """How a DHCP client speaks on one link, with an address of its own or without."""

    async def receive(self) -> bytes:
        """Wait for an IPv4 packet to UDP port 68. Cancel-safe, one caller.

        Raises:
            UnavailableError: the link is gone.
        """
        ...

    def broadcast(self, packet: bytes) -> None:
        """Send an IPv4 packet to everybody on the link. One that cannot be sent is lost."""
        ...

    def send(self, payload: bytes, *, source: IPv4Address, to: IPv4Address) -> None:
        """Send a datagram from UDP port 68 of our address to port 67 of a server."""
        ...

    def announce(self, address: IPv4Address, hardware_address: bytes) -> None:
        """Tell everybody on the link, by ARP, where an address of ours is now."""
        ...

    def close(self) -> None: ...


class DhcpSockets(Protocol):
    """Makes them."""

    def open(self, link_index: int) -> DhcpSocket:
        """Open a socket on one link, that follows the link through renamings. Close it.

        Raises:
            UnavailableError: the link is gone.
        """
        ...


class KernelSettings(Protocol):
    """The kernel's switches (sysctl)."""

    def write(self, name: str, value: str) -> None:
        """Set one, named as below /proc/sys: "net/ipv4/ip_forward".

        Raises:
            FailedPreconditionError: this kernel does not have it, or refuses the value.
        """
        ...
