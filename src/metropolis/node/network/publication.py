# SPDX-License-Identifier: Apache-2.0
"""Tells the rest of the machine what the network is: the status, and the resolver's file."""

import ipaddress
from collections.abc import Sequence
from typing import Final

from metropolis.node.network.edges import RESOLVER_FILE, NetworkEdges
from metropolis.node.network.status import NetworkStatus
from metropolis.supervision import Context

FIREWALL: Final = "the firewall, before this machine takes an address"
_FILE_MODE: Final = 0o644  # every program resolves names
_NAME_SERVERS_MAX: Final = 3  # the C library reads no more


async def resolver(ctx: Context, *, edges: NetworkEdges) -> None:
    """Keep the resolver's file as the status says. The last name servers stay through an outage."""
    await write_resolver(edges, ())
    ctx.healthy()
    watcher = edges.status.watch()
    written: Sequence[str] = ()
    while True:
        status = await watcher.receive()
        if status is None or tuple(status.name_servers) == tuple(written):
            continue
        written = tuple(status.name_servers)
        await write_resolver(edges, written)
        ctx.log.info("Name servers: %s", ", ".join(written) or "none")


async def write_resolver(edges: NetworkEdges, name_servers: Sequence[str]) -> None:
    """Replace the resolver's file."""
    text = resolver_text(name_servers)
    await edges.run.write(RESOLVER_FILE, text.encode("ascii"), mode=_FILE_MODE)


def resolver_text(name_servers: Sequence[str]) -> str:
    """Spell the resolver's file. Names are asked in parallel and quickly given up."""
    lines = ["# Written by the node from its network configuration."]
    usable = [str(ipaddress.ip_address(each)) for each in name_servers][:_NAME_SERVERS_MAX]
    lines += [f"nameserver {each}" for each in usable]
    if usable:
        lines.append("options timeout:2 attempts:3 edns0 trust-ad")
    return "\n".join(lines) + "\n"


def publish(ctx: Context, edges: NetworkEdges, status: NetworkStatus | None) -> None:
    """Set the status if it is news, and log what changed."""
    before = edges.status.current if edges.status.is_set else None
    if status == before:
        return
    was = () if before is None else tuple(before.addresses)
    now = () if status is None else tuple(status.addresses)
    if was != now:
        if now:
            ctx.log.info("Network address: %s", ", ".join(now))
        else:
            ctx.log.warning("Lost network address: %s", ", ".join(was))
    edges.status.set(status)


def say_waiting(ctx: Context, edges: NetworkEdges, what: str) -> None:
    """Say what is awaited, once."""
    if edges.waits_for.current == what:
        return
    edges.waits_for.set(what)
    if what:
        ctx.log.info("Waiting for %s", what)
