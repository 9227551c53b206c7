# SPDX-License-Identifier: Apache-2.0
"""The network of a machine that was configured: brings the kernel to what the configuration says.

Level-triggered: whenever links change, and every few seconds while something is refused, all of it
is compared and what differs is changed. One interface that cannot work does not stop the others.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import Final

from metropolis.base.errors import MetropolisError, chain
from metropolis.host.network import IpAddress, Link
from metropolis.node.network.configuration import InterfaceConfiguration, NetworkConfiguration
from metropolis.node.network.edges import NetworkEdges, in_bus_order
from metropolis.node.network.interface_setup import InterfaceSetup
from metropolis.node.network.lease_apply import apply_lease, withdraw_lease
from metropolis.node.network.lease_keeper import HeldLease, LeaseKeeper
from metropolis.node.network.publication import FIREWALL, publish, say_waiting
from metropolis.node.network.static_plan import assign_devices
from metropolis.node.network.status import NetworkStatus
from metropolis.node.network.wake import Wake, wait_change
from metropolis.supervision import Context

RETRY_S: Final = 10.0  # what the kernel refused is tried again this often
PATIENCE_S: Final = 5.0  # how long the first status waits for all: each new one costs a restart
_LEASED_METRIC: Final = 100  # and one more per interface: routes of the configuration win


async def static(ctx: Context, *, edges: NetworkEdges, configuration: NetworkConfiguration) -> None:
    """Bring the network to what the configuration says, and keep it there."""
    if not edges.may_take_addresses:
        say_waiting(ctx, edges, FIREWALL)
        await edges.wait_guarded()
    wake = Wake(edges.links)
    try:
        async with asyncio.TaskGroup() as group:
            builder = _Builder(ctx, edges, configuration, wake, group)
            ctx.healthy()
            while True:
                await wait_change(wake, until_s=builder.build(), clock=edges.clock)
    finally:
        wake.close()


class _Leased:
    """DHCP on one interface."""

    def __init__(self, keeper: LeaseKeeper, task: asyncio.Task[None]) -> None:
        self.keeper = keeper
        self.task = task
        self.applied: HeldLease | None = None

    def is_of_another(self, link: Link) -> bool:
        """Tell whether this is not the client that the link needs."""
        keeper = self.keeper
        return (
            keeper.is_gone
            or keeper.index != link.index
            or keeper.hardware_address != link.hardware_address
        )


class _Builder:
    """Compares and changes."""

    def __init__(
        self,
        ctx: Context,
        edges: NetworkEdges,
        configuration: NetworkConfiguration,
        wake: Wake,
        group: asyncio.TaskGroup,
    ) -> None:
        self._ctx = ctx
        self._edges = edges
        self._configuration = configuration
        self._wake = wake
        self._group = group
        self._setup = InterfaceSetup(edges)
        self._devices: dict[str, int] = {}
        self._leased: dict[str, _Leased] = {}
        self._refusals: dict[str, str] = {}
        self._patient_until_s = edges.clock.monotonic_s() + PATIENCE_S

    def build(self) -> float:
        """Change what differs; tell when to look again even if nothing changes."""
        found = [each for each in self._edges.links.links() if self._edges.is_device(each)]
        assignment = assign_devices(
            self._configuration, sorted(found, key=in_bus_order), self._devices
        )
        self._devices = dict(assignment.found)
        missing = [*assignment.missing.values()]
        ready: dict[str, Link] = {}
        for name in self._configuration.order:
            interface = self._configuration.interface(name)
            try:
                link = self._setup.bring(
                    interface, self._configuration, device=self._devices.get(name)
                )
                if link is not None:
                    ready[name] = link
                self._lease(interface, link)
                if link is not None:
                    self._setup.finish(interface, link)
            except MetropolisError as error:
                self._refused(name, chain(error))
            else:
                self._refusals.pop(name, None)
        missing += [f"interface {name}: {text}" for name, text in self._refusals.items()]
        missing += self._unleased(ready)
        say_waiting(self._ctx, self._edges, "; ".join(missing))
        now_s = self._edges.clock.monotonic_s()
        if missing and self._edges.status.current is None and now_s < self._patient_until_s:
            return self._patient_until_s
        self._publish(ready)
        return now_s + RETRY_S if self._refusals else math.inf

    def _refused(self, name: str, text: str) -> None:
        if self._refusals.get(name) != text:
            self._ctx.log.error("Interface %s: %s", name, text)
        self._refusals[name] = text

    def _lease(self, interface: InterfaceConfiguration, link: Link | None) -> None:
        """Run DHCP where it is asked for, and use what it got."""
        if not interface.uses_dhcp:
            return
        leased = self._leased.get(interface.name)
        if leased is not None and (link is None or leased.is_of_another(link)):
            leased.task.cancel()
            del self._leased[interface.name]
            leased = None
        if link is None:
            return
        if leased is None:
            keeper = LeaseKeeper(link, edges=self._edges, log=self._ctx.log, changed=self._wake.set)
            leased = _Leased(keeper, self._group.create_task(keeper.run()))
            self._leased[interface.name] = leased
        leased.keeper.observe(link)
        held = leased.keeper.held
        if held is leased.applied:
            return
        if held is None:
            withdraw_lease(self._edges.links, link.index)
        else:
            apply_lease(
                self._edges.links,
                link.index,
                held,
                now_s=self._edges.clock.monotonic_s(),
                log=self._ctx.log,
                metric=_LEASED_METRIC + self._configuration.interfaces.index(interface),
                keeps_mtu=interface.mtu_bytes is not None,
            )
        leased.applied = held

    def _unleased(self, ready: dict[str, Link]) -> Sequence[str]:
        return [
            f"a DHCP server at {each.name}"
            for each in self._configuration.interfaces
            if each.uses_dhcp and each.name in ready and self._held(each) is None
        ]

    def _held(self, interface: InterfaceConfiguration) -> HeldLease | None:
        leased = self._leased.get(interface.name)
        return None if leased is None else leased.applied

    def _publish(self, ready: dict[str, Link]) -> None:
        """Leased addresses come first, then IPv4 before IPv6, then as configured."""
        leases = [
            held.lease
            for each in self._configuration.interfaces
            if (held := self._held(each)) is not None
        ]
        fixed: list[IpAddress] = [
            address.ip
            for each in self._configuration.interfaces
            if each.name in ready
            for address in each.addresses
        ]
        fixed = [each for each in fixed if not each.is_link_local]
        fixed.sort(key=lambda address: address.version)
        addresses = list(dict.fromkeys([*(each.address.ip for each in leases), *fixed]))
        told = [server for each in leases for server in each.name_servers]
        status = NetworkStatus(
            addresses=tuple(map(str, addresses)),
            name_servers=tuple(dict.fromkeys(map(str, [*self._configuration.name_servers, *told]))),
            time_servers=tuple(
                dict.fromkeys(str(server) for each in leases for server in each.time_servers)
            ),
        )
        publish(self._ctx, self._edges, status if addresses else None)
