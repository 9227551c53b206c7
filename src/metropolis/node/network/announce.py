# SPDX-License-Identifier: Apache-2.0
"""Tells switches and neighbours where our addresses are now, by gratuitous ARP.

Whenever an IPv4 address and a carrier come together: at once, and once more 10 s later, because a
port of a switch often needs that long until it forwards anything.
"""

import math
from ipaddress import IPv4Address
from typing import Final

from metropolis.base.errors import UnavailableError
from metropolis.host.network import Link
from metropolis.node.network.edges import NetworkEdges
from metropolis.node.network.wake import Wake, wait_change
from metropolis.supervision import Context

REPEAT_S: Final = 10.0
_Meeting = tuple[int, int, IPv4Address]  # link, which of its carriers it is, address
_NOT_OURS: Final = frozenset({"veth"})  # those are of containers


async def announce(ctx: Context, *, edges: NetworkEdges) -> None:
    """Announce addresses for ever."""
    wake = Wake(edges.links)
    due: dict[_Meeting, float] = {}  # when to announce next; infinity: told twice
    ctx.healthy()
    try:
        while True:
            now_s = edges.clock.monotonic_s()
            present = _present(edges)
            for key in [each for each in due if each not in present]:
                del due[key]
            for key, link in present.items():
                if key not in due:
                    due[key] = now_s + REPEAT_S
                elif due[key] <= now_s:
                    due[key] = math.inf
                else:
                    continue
                _announce(edges, link, key[2])
            await wait_change(wake, until_s=min(due.values(), default=math.inf), clock=edges.clock)
    finally:
        wake.close()


def _present(edges: NetworkEdges) -> dict[_Meeting, Link]:
    links = [
        each
        for each in edges.links.links()
        if each.is_ethernet
        and each.has_carrier
        and (edges.is_device(each) or each.kind not in _NOT_OURS)
    ]
    return {
        (link.index, link.carrier_losses, address.interface.ip): link
        for link in links
        for address in edges.links.addresses(link.index)
        if isinstance(address.interface.ip, IPv4Address)
    }


def _announce(edges: NetworkEdges, link: Link, address: IPv4Address) -> None:
    try:
        socket = edges.dhcp.open(link.index)
    except UnavailableError:
        return  # the link went away; whoever gives it back to us wakes us
    try:
        socket.announce(address, link.hardware_address)
    finally:
        socket.close()
