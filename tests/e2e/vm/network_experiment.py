# SPDX-License-Identifier: Apache-2.0
"""Runs inside the system image: bonds face to face, a VLAN, the firewall, the clock, chronyd.

Cards 0 and 2 hang on one hub, 1 and 3 on another, 4 on a network with a DHCP server.
"""

import asyncio
import json
import re
import sys
from datetime import datetime
from functools import partial
from pathlib import Path

from metropolis.api import configuration_pb2, net_pb2
from metropolis.host.linux.clock import LinuxClock
from metropolis.host.linux.directory import LinuxDirectory
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.host.linux.network_links import LinuxKernelSettings, LinuxLinks
from metropolis.host.linux.packet_socket import LinuxDhcpSockets
from metropolis.host.linux.processes import LinuxProcesses
from metropolis.host.linux.time_keeping import LinuxClockSetting
from metropolis.node.clock.runnable import TimeEdges, time
from metropolis.node.clock.start import read_saved, start_clock
from metropolis.node.firewall.runnable import FirewallEdges, firewall
from metropolis.node.network.edges import NetworkEdges
from metropolis.node.network.runnable import network
from metropolis.node.storage import PARAMETERS, NodeStorage
from metropolis.supervision import Context, LogTree, ReadOptions, Supervisor, Value
from metropolis.supervision.log_text import format_entry

RUN = Path("/run/metropolis")
BUILD_TIME_S = 4102444800  # 2100: later than the hardware clock
Bond, Device, Interface = net_pb2.Bond, net_pb2.Device, net_pb2.Interface


def bond(name: str, members: list[str], mac: str, *addresses: str) -> net_pb2.Interface:
    lacp = Bond.LACP(rate=Bond.LACP.RATE_FAST, actor_system_mac=mac, actor_system_priority=7)
    settings = Bond(
        member_interface=members,
        min_links=2,
        transmit_hash_policy=Bond.TRANSMIT_HASH_POLICY_LAYER3_4,
        carrier_monitor=Bond.CarrierMonitor(polling_interval_ms=200, up_delay_ms=400),
        lacp=lacp,
    )
    return Interface(name=name, bond=settings, mtu=1400, address=addresses)


NET = net_pb2.Net(
    interface=[
        Interface(name="a", device=Device(driver="virtio_net", index=0)),
        Interface(name="b", device=Device(index=1)),
        Interface(name="c", device=Device(index=2)),
        Interface(name="d", device=Device(index=3)),
        bond("bond0", ["a", "b"], "02:00:00:00:00:0a", "192.0.2.7/24"),
        bond("bond1", ["c", "d"], "02:00:00:00:00:0b"),
        Interface(
            name="tagged",
            vlan=net_pb2.VLAN(parent="bond0", id=7, protocol=net_pb2.VLAN.PROTOCOL_SVLAN),
            address=["198.51.100.7/24"],
        ),
        Interface(name="up", device=Device(index=4), ipv4_autoconfig=net_pb2.IPv4Autoconfig()),
    ]
)


def aggregate(name: str) -> str:
    """What the kernel says of a bond: mode, ports, partner, policy."""
    text = Path(f"/proc/net/bonding/{name}").read_text()
    wanted = ("Bonding Mode", "Transmit Hash", "Number of ports", "Partner Mac", "LACP rate")
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith(wanted)]
    return "; ".join(lines)


async def main() -> None:
    clock, processes, log_tree = LinuxClock(), LinuxProcesses(), LogTree(clock=LinuxClock())
    storage = NodeStorage(LinuxDirectory(Path("/tmp/store")))
    parameters = configuration_pb2.NodeParameters(network_config=NET)
    await storage.write(PARAMETERS, parameters.SerializeToString())
    start = await start_clock(
        LinuxClockSetting(),
        storage,
        build_time_s=BUILD_TIME_S,
        wall=clock.wall(),
        log=log_tree.leveled("root.time"),
    )
    facts: dict[str, object] = {"start": start.source, "year": clock.wall().year}
    walls = FirewallEdges(processes=processes)
    edges = NetworkEdges(
        clock=clock,
        entropy=LinuxEntropy(),
        links=LinuxLinks(),
        dhcp=LinuxDhcpSockets(),
        settings=LinuxKernelSettings(),
        storage=storage,
        run=LinuxDirectory(RUN),
        status=Value(None),
        is_guarded=walls.is_closed,
    )
    times = TimeEdges(
        clock=clock,
        setting=LinuxClockSetting(),
        storage=storage,
        run=edges.run,
        processes=processes,
        network=edges.status,
        start=start.source,
    )

    async def root(ctx: Context) -> None:
        ctx.run("firewall", partial(firewall, edges=walls))
        ctx.run("network", partial(network, edges=edges))
        ctx.run("time", partial(time, edges=times))
        ctx.healthy()
        await ctx.wait_cancelled()

    supervisor = Supervisor(root, log_tree=log_tree, clock=clock, rng=LinuxEntropy().jitter())
    async with asyncio.TaskGroup() as group:
        running = group.create_task(supervisor.run())
        try:
            async with asyncio.timeout(60):
                status = await edges.status.wait_for(lambda found: found is not None)
                assert status is not None
                facts["addresses"] = list(status.addresses)
                facts["bonds"] = await wait_partners()
                facts["chronyd"] = await wait_chronyd()
        finally:
            running.cancel()
            options = ReadOptions(with_children=True, backlog=None)
            for entry in log_tree.read("root", options).backlog:
                sys.stdout.write(f"{format_entry(entry)}\n")
            facts["router_addresses"] = [
                str(address.interface)
                for link in LinuxLinks().links()
                for address in LinuxLinks().addresses(link.index)
                if link.name != "lo"
                and address.interface.version == 6
                and not address.interface.is_link_local
            ]
    facts["vlan"] = Path("/proc/net/vlan/tagged").read_text().split("\n")[0].split()
    saved = await read_saved(storage)
    assert isinstance(saved, datetime)
    facts["saved_year"] = saved.year
    sys.stdout.write(f"facts: {json.dumps(facts)}\n")


async def wait_partners() -> list[str]:
    """Wait until both bonds have agreed with their partner on both cables."""
    while True:
        found = [aggregate("bond0"), aggregate("bond1")]
        if all("Number of ports: 2" in each for each in found):
            return found
        await asyncio.sleep(0.2)


async def wait_chronyd() -> str:
    """Wait until chronyd has said who it is and given up its rights."""
    while True:
        await asyncio.sleep(0.1)
        try:
            number = (RUN / "chronyd.pid").read_text().strip()
            text = Path(f"/proc/{number}/status").read_text()
        except OSError:
            continue
        found = dict(re.findall(r"^(Uid|CapEff|Seccomp):\s+(\S+)", text, re.MULTILINE))
        if found["Uid"] == "100" and found["Seccomp"] == "2":
            return json.dumps(found)


asyncio.run(main())
