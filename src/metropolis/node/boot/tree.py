# SPDX-License-Identifier: Apache-2.0
"""The machine's own tree: what runs whether the node does or not, and the node inside it."""

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from metropolis.host.linux.boot_clock import seconds_since_kernel_start
from metropolis.host.linux.kernel_log import kernel_records
from metropolis.host.linux.terminal import LinuxTerminal
from metropolis.host.linux.virtio_port import VirtioPort, find_port
from metropolis.node.boot.awaited_parameters import lacks_parameters, wait_for_parameters
from metropolis.node.boot.board import listen
from metropolis.node.boot.confirmation import TRY_S, confirmation, watchdog
from metropolis.node.boot.crash_record import crash_records
from metropolis.node.boot.edges import MachineEdges, node_edges
from metropolis.node.boot.given_parameters import take_given_parameters
from metropolis.node.boot.kernel_log import kernel_log
from metropolis.node.boot.parameters_port import PORT_NAME
from metropolis.node.clock.runnable import time
from metropolis.node.console.display import display
from metropolis.node.console.serial import serial
from metropolis.node.firewall.runnable import firewall
from metropolis.node.network.runnable import network
from metropolis.node.network.status import NetworkStatus
from metropolis.node.root import make_node
from metropolis.node.storage import NodeStorage
from metropolis.supervision import Context, LogTree, RunnableStatus, State, Supervisor

ROOT_NAME: Final = "machine"
SCREEN: Final = "/dev/tty0"
LOOK_S: Final = 0.1  # for the moment at which the API answers
_SERVERS: Final = ("root.role.curator.listener", "root.role.nodemgmt")


def machine_tree(edges: MachineEdges, log_tree: LogTree) -> Supervisor:
    """Return the supervisor of the machine's own tree."""
    supervisor: Supervisor

    def states() -> Mapping[str, RunnableStatus]:
        return supervisor.states()

    edges.board.machine_states = states
    supervisor = Supervisor(
        partial(_machine, edges=edges),
        log_tree=log_tree,
        clock=edges.host.clock,
        rng=edges.host.entropy.jitter(),
        root_name=ROOT_NAME,
        observer=edges.metrics.tree,
    )
    return supervisor


async def _machine(ctx: Context, *, edges: MachineEdges) -> None:
    storage = NodeStorage(edges.host.storage, edges.sealer)
    done = await take_given_parameters(storage)
    if done:  # they may configure the network, too
        ctx.log.info("%s", done)
    device = find_port(PORT_NAME)
    if device is None or not await lacks_parameters(storage):
        _run_node(ctx, edges=edges)
        device = None
    _run_rest(ctx, edges=edges)
    if device is not None:
        await _wait_for_parameters(ctx, storage, device, edges=edges)
        _run_node(ctx, edges=edges)
    ctx.healthy()
    await ctx.wait_cancelled()


async def _wait_for_parameters(
    ctx: Context, storage: NodeStorage, device: Path, *, edges: MachineEdges
) -> None:
    """Wait for the hypervisor: what it will say may configure the network, too."""
    awaited = edges.board.network_waits_for
    awaited.set("node parameters")
    port = VirtioPort(device)
    try:
        await wait_for_parameters(storage, port, log=ctx.log)
    finally:
        port.close()
        awaited.set("")
    edges.handover.timeline.mark("parameters")
    ctx.log.info("Node parameters taken from the hypervisor")


def _run_node(ctx: Context, *, edges: MachineEdges) -> None:
    """Run what the node parameters, or what came of them, have a say in."""
    ctx.run("firewall", partial(firewall, edges=edges.firewall))
    ctx.run("network", partial(network, edges=edges.network))
    ctx.run("time", partial(time, edges=edges.time))
    ctx.run("node", partial(_node, edges=edges))


def _run_rest(ctx: Context, *, edges: MachineEdges) -> None:
    handover, board = edges.handover, edges.board
    ctx.run("serial", partial(serial, write=print, facts=board.facts))
    ctx.run("troubles", partial(listen, board=board))
    if handover.watchdog is not None:
        slots = handover.slots
        patience_s = TRY_S if slots is not None and slots.is_trying else None
        feeding = partial(watchdog, armed=handover.watchdog, patience_s=patience_s)
        ctx.run("watchdog", feeding)
    confirming = partial(confirmation, handover=handover, board=board, esp=edges.esp)
    ctx.run("confirmation", confirming)
    ctx.run("timeline", partial(_timeline, edges=edges))
    ctx.run("screen", partial(_screen, edges=edges))
    ctx.run("crash", crash_records)
    ctx.run("kernel", partial(kernel_log, records=kernel_records))
    handover.timeline.mark("trees")
    for note in handover.notes:
        ctx.log.warning("%s", note)


async def _screen(ctx: Context, *, edges: MachineEdges) -> None:
    try:
        terminal = LinuxTerminal(SCREEN)
    except OSError:
        ctx.healthy()
        ctx.done()
        return
    try:
        await display(ctx, terminal=terminal, facts=edges.board.facts, clock=edges.host.clock)
    finally:
        terminal.close()


async def _timeline(ctx: Context, *, edges: MachineEdges) -> None:
    """Log how long the boot took, once what people ask answers."""
    ctx.healthy()
    while True:
        states = edges.board.states()
        if all(dn in states and states[dn].state is State.HEALTHY for dn in _SERVERS):
            break
        await asyncio.sleep(LOOK_S)
    edges.handover.timeline.mark("api")
    ctx.log.info("API ready %.1f s after the kernel's start", seconds_since_kernel_start())
    ctx.log.info("%s", edges.handover.timeline.line())
    ctx.done()


async def _node(ctx: Context, *, edges: MachineEdges) -> None:
    """Run the node while the machine has addresses; begin anew when they change."""
    watcher = edges.network.status.watch()
    ctx.healthy()
    status = await watcher.wait_for(lambda found: found is not None)
    edges.handover.timeline.mark("network")
    while True:
        assert status is not None
        addresses = tuple(status.addresses)
        supervisor = make_node(node_edges(edges, addresses), ctx.log_tree)
        edges.board.node_states = supervisor.states
        async with asyncio.TaskGroup() as group:
            running = group.create_task(supervisor.run())
            status = await watcher.wait_for(partial(_is_elsewhere, addresses))
            ctx.log.warning("This machine's addresses change: the node starts again")
            running.cancel()


def _is_elsewhere(addresses: tuple[str, ...], status: NetworkStatus | None) -> bool:
    return status is not None and tuple(status.addresses) != addresses
