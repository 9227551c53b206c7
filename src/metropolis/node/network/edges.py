# SPDX-License-Identifier: Apache-2.0
"""What the network of a machine works on."""

from dataclasses import dataclass, field
from typing import Final

from metropolis.host import Clock, Directory, Entropy
from metropolis.host.network import DhcpSockets, KernelSettings, Link, Links
from metropolis.node.network.status import NetworkStatus
from metropolis.node.storage import NodeStorage
from metropolis.supervision import Value

VENDOR_CLASS: Final = "dev.monogon.metropolis.node.v1"  # what DHCP servers know us by
RESOLVER_FILE: Final = "resolv.conf"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkEdges:
    """All edges of the network's runnables.

    Attributes:
        storage: Where the node parameters and the saved network configuration are.
        run: The directory that /etc/resolv.conf points into.
        status: Told what there is; None while there is no address.
        waits_for: Told in a few words what is awaited; empty when nothing is.
        is_guarded: The firewall is closed; no address is taken before. None: there is none.
        device_kinds: What counts as a network device, see `Link.kind`; "" is real hardware.
    """

    clock: Clock
    entropy: Entropy
    links: Links
    dhcp: DhcpSockets
    settings: KernelSettings
    storage: NodeStorage
    run: Directory
    status: Value[NetworkStatus | None]
    waits_for: Value[str] = field(default_factory=lambda: Value(""))
    is_guarded: Value[bool] | None = None
    device_kinds: frozenset[str] = frozenset({""})

    @property
    def may_take_addresses(self) -> bool:
        """Whether the firewall is closed."""
        return self.is_guarded is None or (self.is_guarded.is_set and self.is_guarded.current)

    async def wait_guarded(self) -> None:
        """Wait until the firewall is closed."""
        if self.is_guarded is not None:
            await self.is_guarded.wait_for(bool)

    def is_device(self, link: Link) -> bool:
        """Tell whether this is an Ethernet device, and not something made by software."""
        return link.is_ethernet and link.kind in self.device_kinds


def in_bus_order(link: Link) -> tuple[str, int]:
    """Sort key: the same order at every boot, as long as the hardware stays where it is."""
    return (link.place, link.index)
