# SPDX-License-Identifier: Apache-2.0
"""Makes a link use a lease, or stop using one.

What is owned here: every IPv4 address of the link that has an end, and every route of the link
that DHCP made. The new is added before the old is removed, so that a renewal disturbs nothing; and
the kernel knows when the lease ends, should we not live to end it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import IPv4Address
from typing import Final

from metropolis.base.errors import MetropolisError
from metropolis.host.network import (
    MAIN_METRIC,
    ROUTE_PROTOCOL_DHCP,
    LinkAddress,
    Links,
    Route,
)
from metropolis.node.network.lease_keeper import HeldLease
from metropolis.protocols.dhcp4.lease import Lease
from metropolis.supervision import Logger

_AGES_S: Final = 0xFFFFFFFE  # longer than any machine lives, and still an end
_POINT_TO_POINT_BITS: Final = 31


def apply_lease(
    links: Links,
    index: int,
    held: HeldLease,
    *,
    now_s: float,
    log: Logger,
    metric: int = MAIN_METRIC,
    keeps_mtu: bool = False,
) -> None:
    """Make a link use a lease and no other.

    Args:
        keeps_mtu: The link's MTU was set on purpose: the network's wish is ignored.

    Raises:
        FailedPreconditionError: the kernel refuses the address itself.
    """
    lease = held.lease
    if lease.mtu_bytes is not None and not keeps_mtu:
        _try(log, partial(links.change_link, index, mtu_bytes=lease.mtu_bytes))
    address = LinkAddress(
        link_index=index,
        interface=lease.address,
        broadcast=_broadcast(lease),
        valid_s=int(min(max(held.expires_s - now_s, 1), _AGES_S)),
    )
    links.put_address(address)
    routes = _routes(index, lease, metric)
    for route in routes:
        _try(log, partial(links.put_route, route))
    _withdraw(links, index, kept=address, routes=routes)


def withdraw_lease(links: Links, index: int) -> None:
    """Make a link use no lease. It is fine when the link is gone."""
    _withdraw(links, index, kept=None, routes=())


def _withdraw(
    links: Links, index: int, *, kept: LinkAddress | None, routes: Sequence[Route]
) -> None:
    wanted = {(each.destination, each.metric) for each in routes}
    for route in links.routes(index, ROUTE_PROTOCOL_DHCP):
        if (route.destination, route.metric) not in wanted:
            links.remove_route(route)
    for address in links.addresses(index):
        is_ours = address.interface.version == 4 and address.valid_s is not None  # noqa: PLR2004  # IPv4
        if is_ours and (kept is None or address.interface != kept.interface):
            links.remove_address(address)


def _routes(index: int, lease: Lease, metric: int) -> Sequence[Route]:
    """Routes of a lease; those without a gateway first, as the others may need them."""
    routes = [
        Route(
            link_index=index,
            destination=each.destination,
            gateway=each.gateway,
            source=lease.address.ip,
            metric=metric,
            protocol=ROUTE_PROTOCOL_DHCP,
        )
        for each in lease.routes
    ]
    return sorted(routes, key=lambda route: route.gateway is not None)


def _broadcast(lease: Lease) -> IPv4Address | None:
    if lease.broadcast is not None:
        return lease.broadcast
    network = lease.address.network
    return network.broadcast_address if network.prefixlen < _POINT_TO_POINT_BITS else None


def _try(log: Logger, change: Callable[[], None]) -> None:
    """Do what a lease wishes and a machine can live without."""
    try:
        change()
    except MetropolisError as error:
        log.warning("%s", error)
