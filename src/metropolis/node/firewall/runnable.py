# SPDX-License-Identifier: Apache-2.0
"""Loads the rules."""

from dataclasses import dataclass, field
from typing import Final

from metropolis.host import Processes, ProcessSpec
from metropolis.node.firewall.rules import open_tcp_ports, rules
from metropolis.supervision import Context, Runnable, Value
from metropolis.supervision.process import run_process

NFT: Final = "/usr/sbin/nft"


@dataclass(frozen=True, slots=True, kw_only=True)
class FirewallEdges:
    """What the firewall works on.

    Attributes:
        program: Path of nft.
        is_debug: Whether this is a debug image.
        is_closed: Set once the rules are in force; the network waits for it.
    """

    processes: Processes
    program: str = NFT
    is_debug: bool = False
    is_closed: Value[bool] = field(default_factory=lambda: Value(False))


async def firewall(ctx: Context, *, edges: FirewallEdges) -> None:
    """Load the rules; they stay in the kernel. A failure is repeated by the tree."""
    ctx.run("rules", _loaded(edges))
    ctx.healthy()
    await ctx.wait_cancelled()


def _loaded(edges: FirewallEdges) -> Runnable:
    spec = ProcessSpec(
        argv=[edges.program, "--file", "-"],
        standard_input=rules(is_debug=edges.is_debug).encode("ascii"),
    )
    load = run_process(spec, processes=edges.processes, probe=None, is_one_shot=True)

    async def load_rules(ctx: Context) -> None:
        await load(ctx)
        ports = ", ".join(map(str, open_tcp_ports(is_debug=edges.is_debug)))
        ctx.log.info("The firewall is closed but for TCP ports %s", ports)
        edges.is_closed.set(True)

    return load_rules
