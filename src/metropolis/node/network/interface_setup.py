# SPDX-License-Identifier: Apache-2.0
"""Brings one interface of a configuration about: makes, names, joins, switches on, addresses."""

from typing import Final

from metropolis.base.errors import FailedPreconditionError
from metropolis.host.network import (
    ROUTE_PROTOCOL_STATIC,
    Link,
    LinkAddress,
    Route,
)
from metropolis.node.network.configuration import (
    BondOf,
    InterfaceConfiguration,
    NetworkConfiguration,
    VlanOf,
)
from metropolis.node.network.edges import NetworkEdges
from metropolis.node.network.kernel_settings import write_settings

_IPV6_METRIC: Final = 1024  # what the kernel makes of 0 there


class InterfaceSetup:
    """Compares interfaces with the kernel's links and changes what differs."""

    def __init__(self, edges: NetworkEdges) -> None:
        self._edges = edges
        self._links = edges.links

    def bring(
        self,
        interface: InterfaceConfiguration,
        configuration: NetworkConfiguration,
        *,
        device: int | None,
    ) -> Link | None:
        """Bring an interface about; return its link, or None while something below is missing.

        Args:
            device: Index of the device it is; None when it is made of others, or not there.

        Raises:
            FailedPreconditionError: the kernel refuses something.
        """
        link = self._existing(interface, device)
        if link is None:
            return None
        master = self._master(interface, configuration)
        if link.master != master:
            if master:
                self._links.change_link(link.index, is_up=False)
            self._links.change_link(link.index, master=master)
        self._set_up_ipv6(interface)
        link = self._link(link.index)
        if not link.is_up:
            self._links.change_link(link.index, is_up=True)
        present = {each.interface for each in self._links.addresses(link.index)}
        for address in interface.addresses:
            if address not in present:
                self._links.put_address(LinkAddress(link_index=link.index, interface=address))
        return self._link(link.index)

    def finish(self, interface: InterfaceConfiguration, link: Link) -> None:
        """Do what an interface can be used without: its MTU and routes.

        Raises:
            FailedPreconditionError: the kernel refuses something.
        """
        if interface.mtu_bytes not in {None, link.mtu_bytes}:
            self._links.change_link(link.index, mtu_bytes=interface.mtu_bytes)
        self._set_up_routes(interface, link.index)

    def _existing(self, interface: InterfaceConfiguration, device: int | None) -> Link | None:
        """Find or make the link, under its configured name."""
        named = self._named(interface.name)
        if isinstance(interface.kind, BondOf):
            if named is None:
                self._links.create_bond(interface.name, interface.kind.settings)
            return self._made(interface.name, "bond")
        if isinstance(interface.kind, VlanOf):
            parent = self._named(interface.kind.parent)
            if parent is None:
                return None
            if named is None:
                self._links.create_vlan(
                    interface.name,
                    parent=parent.index,
                    vlan_id=interface.kind.vlan_id,
                    is_service=interface.kind.is_service,
                )
            return self._made(interface.name, "vlan")
        if device is None:
            return None
        link = self._link(device)
        if link.name != interface.name:
            if named is not None:  # somebody else has our name, for the time being
                self._rename(named, f"net{named.index}")
            self._rename(link, interface.name)
        return self._link(device)

    def _made(self, name: str, kind: str) -> Link:
        link = self._named(name)
        if link is None or link.kind != kind:
            raise FailedPreconditionError(
                f"{name} is to be a {kind}, and there is another link of that name",
                remedy="Give the interface a name that no device of this machine has.",
            )
        return link

    def _rename(self, link: Link, name: str) -> None:
        if link.is_up:
            self._links.change_link(link.index, is_up=False)
        self._links.change_link(link.index, name=name)

    def _master(
        self, interface: InterfaceConfiguration, configuration: NetworkConfiguration
    ) -> int:
        for each in configuration.interfaces:
            if isinstance(each.kind, BondOf) and interface.name in each.kind.members:
                bond = self._named(each.name)
                if bond is None:
                    raise FailedPreconditionError(
                        f"bond {each.name} is not there yet", remedy="Mend the bond first."
                    )
                return bond.index
        return 0

    def _set_up_ipv6(self, interface: InterfaceConfiguration) -> None:
        place = f"net/ipv6/conf/{interface.name}"
        if interface.ipv6_privacy is None:
            write_settings({f"{place}/accept_ra": "0"}, settings=self._edges.settings)
            return
        self._edges.settings.write(f"{place}/use_tempaddr", str(interface.ipv6_privacy))
        self._edges.settings.write(f"{place}/accept_ra", "1")

    def _set_up_routes(self, interface: InterfaceConfiguration, index: int) -> None:
        wanted = [
            Route(
                link_index=index,
                destination=each.destination,
                gateway=each.gateway,
                source=each.source,
                metric=each.metric or (_IPV6_METRIC if each.destination.version == 6 else 0),  # noqa: PLR2004  # IPv6
            )
            for each in interface.routes
        ]
        routes = self._links.routes(index, ROUTE_PROTOCOL_STATIC)
        for route in wanted:
            if route not in routes:
                self._links.put_route(route)
        for route in routes:
            if route not in wanted:
                self._links.remove_route(route)

    def _named(self, name: str) -> Link | None:
        return next((each for each in self._links.links() if each.name == name), None)

    def _link(self, index: int) -> Link:
        found = next((each for each in self._links.links() if each.index == index), None)
        if found is None:
            raise FailedPreconditionError(
                "a network device vanished", remedy="Put it back, or remove it from the machine."
            )
        return found
