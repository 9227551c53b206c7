# SPDX-License-Identifier: Apache-2.0
"""The life of a machine: two trees over one log, until somebody ends it."""

import asyncio
import signal
from functools import partial
from typing import NoReturn

import uvloop

from metropolis.host import Host
from metropolis.host.linux.collector import calm_collector, collect_now_and_then
from metropolis.host.linux.machine import linux_host
from metropolis.host.linux.memory import give_memory_back
from metropolis.host.linux.open_files import allow_open_files
from metropolis.host.linux.power_button import wait_power_button
from metropolis.host.linux.processes import LinuxProcesses
from metropolis.host.linux.silence import repeat_every_second
from metropolis.host.linux.time_keeping import LinuxClockSetting
from metropolis.node.boot.devices import Devices
from metropolis.node.boot.edges import machine_edges
from metropolis.node.boot.ending import end
from metropolis.node.boot.handover import Handover
from metropolis.node.boot.power import Farewell, OrderlyPower
from metropolis.node.boot.tree import machine_tree
from metropolis.node.boot.userland import DATA, EPHEMERAL, HOSTS, STORE
from metropolis.node.clock.start import Source, start_clock
from metropolis.node.product import read_product_info
from metropolis.node.storage import NodeStorage
from metropolis.supervision import LogTree, Supervisor
from metropolis.supervision.logging_bridge import LoggingBridge


def live(handover: Handover, devices: Devices) -> NoReturn:
    """Run this machine until it is ended, and end it."""
    allow_open_files()
    repeat_every_second()
    give_memory_back()
    calm_collector()
    farewell = uvloop.run(_live(handover, devices))
    end(farewell.ending, reason=farewell.reason)


async def _live(handover: Handover, devices: Devices) -> Farewell:
    esp = await asyncio.get_running_loop().run_in_executor(None, devices.join)
    host = _host()
    log_tree = LogTree(clock=host.clock)
    for problem in devices.problems:
        log_tree.leveled("machine.drivers").warning("%s", problem)
    power = OrderlyPower(handover.slots)
    storage_log = log_tree.leveled("machine.storage")
    clock_start = await _start_clock(host, log_tree)
    edges = machine_edges(
        host,
        handover,
        power,
        esp=esp,
        clock_start=clock_start,
        say=partial(storage_log.info, "%s"),
    )
    supervisor = machine_tree(edges, log_tree)
    bridge = LoggingBridge(log_tree)
    bridge.install()
    try:
        return await _until_ended(supervisor, power)
    finally:
        bridge.remove()


async def _start_clock(host: Host, log_tree: LogTree) -> Source:
    """Set the clock before anything asks it; return who was believed."""
    product = read_product_info()
    start = await start_clock(
        LinuxClockSetting(),
        NodeStorage(host.storage),
        build_time_s=0 if product is None else product.build_time_s,
        wall=host.clock.wall(),
        log=log_tree.leveled("machine.time"),
    )
    return start.source


def _host() -> Host:
    """The edges of this machine, but for its addresses, which the network tells."""
    host = linux_host(
        storage=STORE, ephemeral=EPHEMERAL, hosts_path=HOSTS, addresses=(), measured=DATA
    )
    assert isinstance(host.processes, LinuxProcesses)
    host.processes.adopt_orphans()
    return host


async def _until_ended(supervisor: Supervisor, power: OrderlyPower) -> Farewell:
    loop = asyncio.get_running_loop()
    # The keyboard's three keys, and what a hypervisor or an init's tools would send.
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(
            number, partial(power.end, is_power_off=False, reason=f"signal {number.name}")
        )
    async with asyncio.TaskGroup() as group:
        running = group.create_task(supervisor.run())
        collecting = group.create_task(collect_now_and_then())
        button = group.create_task(_heed_power_button(power))
        farewell = await power.wait_farewell()
        button.cancel()
        running.cancel()
        collecting.cancel()
    return farewell


async def _heed_power_button(power: OrderlyPower) -> None:
    await wait_power_button()
    power.end(is_power_off=True, reason="the power button was pressed")
