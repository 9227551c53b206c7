# SPDX-License-Identifier: Apache-2.0
"""A real chronyd, told by the node whom to ask. It does not touch the clock of this computer."""

import subprocess
from functools import partial
from pathlib import Path

import pytest

from e2e.network.machine import Machine
from e2e.network.rig import in_new_network, ip, neighbour
from metropolis.host.linux.clock import LinuxClock
from metropolis.host.linux.directory import LinuxDirectory
from metropolis.host.linux.processes import LinuxProcesses
from metropolis.host.linux.time_keeping import LinuxClockSetting
from metropolis.node.clock.runnable import TimeEdges, time
from metropolis.node.network.status import NetworkStatus
from metropolis.node.storage import NodeStorage
from metropolis.supervision import Value

CHRONYD = Path(__file__).parents[3] / ".cache/chrony/usr/sbin/chronyd"
TEN_YEARS_S = 10 * 365 * 86400 + 500  # chronyd tells a little less, or a little more


def edges(root: Path, network: Value[NetworkStatus | None]) -> TimeEdges:
    return TimeEdges(
        clock=LinuxClock(),
        setting=LinuxClockSetting(),
        storage=NodeStorage(LinuxDirectory(root / "storage")),
        run=LinuxDirectory(root / "run"),
        processes=LinuxProcesses(),
        network=network,
        program=str(CHRONYD),
        user="root",
        sets_clock=False,
    )


def status(*time_servers: str) -> NetworkStatus:
    return NetworkStatus(addresses=("192.0.2.7",), time_servers=time_servers)


@pytest.mark.parametrize("offset_s", [-TEN_YEARS_S, TEN_YEARS_S], ids=["fast", "slow"])
def test_a_clock_that_is_ten_years_wrong_is_to_jump_to_the_time_of_the_network(
    offset_s: int, tmp_path: Path
) -> None:
    async def scenario() -> None:
        with neighbour() as far:
            far.cable("port0", "far0", "192.0.2.1/24")
            ip("link set port0 up", "addr add 192.0.2.7/24 dev port0")
            far.start(["python3", "-c", _NTP_SERVER, str(offset_s)], ready="serving")
            network: Value[NetworkStatus | None] = Value(None)
            machine = Machine(tmp_path, {"time": partial(time, edges=edges(tmp_path, network))})
            async with machine.running():
                network.set(status("192.0.2.1"))
                await machine.wait_log("Time servers: 192.0.2.1")
                await machine.wait_log("Selected source 192.0.2.1")
                await machine.wait_log(f"System clock wrong by {str(offset_s)[:5]}")
                await machine.wait_log("Could not step system clock")  # it tries to

    in_new_network(scenario)


def test_chronyd_is_told_when_the_network_recommends_other_servers(tmp_path: Path) -> None:
    async def scenario() -> None:
        with neighbour() as far:
            far.cable("port0", "far0", "192.0.2.1/24")
            ip("link set port0 up", "addr add 192.0.2.7/24 dev port0")
            far.start(["python3", "-c", _NTP_SERVER, "0"], ready="serving")
            network: Value[NetworkStatus | None] = Value(status("198.51.100.1"))
            machine = Machine(tmp_path, {"time": partial(time, edges=edges(tmp_path, network))})
            async with machine.running():
                await machine.wait_log("Time servers: 198.51.100.1")
                network.set(None)
                network.set(status("192.0.2.1"))
                await machine.wait_log("Selected source 192.0.2.1")
                assert listening() == ""  # it answers nobody

    in_new_network(scenario)


def listening() -> str:
    """TCP and UDP sockets of this namespace that anybody may send to."""
    done = subprocess.run(["ss", "-Hlntu"], check=True, capture_output=True, text=True)
    return done.stdout


_NTP_SERVER = """
import socket, struct, sys, time
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 123))
print("serving", flush=True)
def stamp():
    now = time.time() + float(sys.argv[1]) + 2208988800
    return struct.pack("!II", int(now) & 0xFFFFFFFF, int(now % 1 * 2**32))
while True:
    data, sender = server.recvfrom(1024)
    received = stamp()
    head = struct.pack("!BBbbII4s", 0x24, 2, data[2], -20, 0, 0, b"TEST")
    server.sendto(head + received + data[40:48] + received + stamp(), sender)
"""
