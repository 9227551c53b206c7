# SPDX-License-Identifier: Apache-2.0
"""The machine's own tree: what runs whether the node does or not, and the node inside it."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from metropolis.consensus.scratch import etcd_scratch
from metropolis.host import Host
from metropolis.host.linux.block_devices import FoundPartition
from metropolis.host.linux.kernel_figures import LinuxKernelFigures
from metropolis.host.linux.kernel_log import kernel_records
from metropolis.node.boot.handover import Handover
from metropolis.node.boot.kernel_log import kernel_log
from metropolis.node.boot.power import OrderlyPower
from metropolis.node.console import console
from metropolis.node.etcd import etcd_member
from metropolis.node.metrics.edges import MetricsEdges
from metropolis.node.network.status import NetworkStatus
from metropolis.node.partition import PlainDirectory
from metropolis.node.root import NodeEdges, make_node
from metropolis.node.storage import REHEARSAL
from metropolis.rpc.grpc import GrpcTransport, dial_unix
from metropolis.rpc.http_client import get_local
from metropolis.rpc.https import serve_https, serve_mutual_https
from metropolis.supervision import Context, LogTree, RunnableStatus, Supervisor, Value

ETCD: Final = "/usr/bin/etcd"
ROOT_NAME: Final = "machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineEdges:
    """Everything that the machine's tree works on."""

    host: Host
    handover: Handover
    esp: FoundPartition
    power: OrderlyPower
    network: Value[NetworkStatus | None] = field(default_factory=lambda: Value(None))


def machine_tree(edges: MachineEdges, log_tree: LogTree) -> Supervisor:
    """Return the supervisor of the machine's own tree."""
    supervisor: Supervisor

    def states() -> Mapping[str, RunnableStatus]:
        return supervisor.states()

    supervisor = Supervisor(
        partial(_machine, edges=edges, states=states),
        log_tree=log_tree,
        clock=edges.host.clock,
        rng=edges.host.entropy.jitter(),
        root_name=ROOT_NAME,
    )
    return supervisor


async def _machine(
    ctx: Context, *, edges: MachineEdges, states: Callable[[], Mapping[str, RunnableStatus]]
) -> None:
    ctx.run("console", partial(console, write=print))
    ctx.run("kernel", partial(kernel_log, records=kernel_records))
    ctx.run("node", partial(_node, edges=edges, states=states))
    ctx.healthy()
    edges.handover.timeline.mark("trees")
    ctx.log.info("%s", edges.handover.timeline.line())
    await ctx.wait_cancelled()


async def _node(
    ctx: Context, *, edges: MachineEdges, states: Callable[[], Mapping[str, RunnableStatus]]
) -> None:
    """Run the node while the machine has addresses; begin anew when they change."""
    watcher = edges.network.watch()
    ctx.healthy()
    status = await watcher.wait_for(lambda found: found is not None)
    while True:
        assert status is not None
        addresses = tuple(status.addresses)
        ctx.log.info("The node runs at %s", ", ".join(addresses))
        host = replace(edges.host, addresses=addresses)
        supervisor = make_node(_node_edges(host, edges, states), ctx.log_tree)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(supervisor.run())
            status = await watcher.wait_for(partial(_is_elsewhere, addresses))
            ctx.log.warning("This machine's addresses change: the node starts again")
            running.cancel()


def _is_elsewhere(addresses: tuple[str, ...], status: NetworkStatus | None) -> bool:
    return status is not None and tuple(status.addresses) != addresses


def _node_edges(
    host: Host, edges: MachineEdges, states: Callable[[], Mapping[str, RunnableStatus]]
) -> NodeEdges:
    metrics = MetricsEdges(
        serve=serve_mutual_https, get_local=get_local, kernel=LinuxKernelFigures()
    )
    return NodeEdges(
        host=host,
        transport=GrpcTransport(meter=metrics.calls),
        member=etcd_member(host=host, binary=ETCD, dial=dial_unix),
        scratch=etcd_scratch(host=host, binary=ETCD, root=REHEARSAL.path, dial=dial_unix),
        partition=PlainDirectory(host.storage),
        serve_https=serve_https,
        metrics=metrics,
        power=edges.power,
        machine_states=states,
    )
