# SPDX-License-Identifier: Apache-2.0
"""The firewall in a real kernel: what answers from outside is exactly what is documented."""

import asyncio
import json
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

from e2e.network.machine import Machine
from e2e.network.rig import Neighbour, in_new_network, ip, neighbour
from metropolis.base import ports
from metropolis.host.linux.processes import LinuxProcesses
from metropolis.node.firewall.rules import open_tcp_ports
from metropolis.node.firewall.runnable import FirewallEdges, firewall

EVERY_PORT = range(1, 65536)  # nothing listens: a port that is let in refuses, others are silent


def answering(far: Neighbour, address: str, tcp_ports: range) -> list[int]:
    """Send a SYN to TCP ports; return those that answer at all."""
    bounds = (str(tcp_ports.start), str(tcp_ports.stop))
    return [int(each) for each in json.loads(far.run(["python3", "-c", _SCAN, address, *bounds]))]


def udp_refused(far: Neighbour, address: str) -> bool:
    """Tell whether the closed UDP ports of usual services say so."""
    return bool(json.loads(far.run(["python3", "-c", _SCAN_UDP, address])))


def machine_with(edges: FirewallEdges, root: Path) -> Machine:
    return Machine(root, {"firewall": partial(firewall, edges=edges)})


@pytest.mark.parametrize(
    ("address", "is_debug"), [("192.0.2.7", False), ("2001:db8::7", True)], ids=["IPv4", "IPv6"]
)
def test_exactly_the_documented_ports_answer(is_debug: bool, address: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        with neighbour() as far:
            far.cable("port0", "far0", "192.0.2.1/24")
            far.ip("addr add 2001:db8::1/64 dev far0 nodad")
            ip("link set port0 up", "addr add 192.0.2.7/24 dev port0")
            ip("addr add 2001:db8::7/64 dev port0 nodad")
            assert answering(far, address, EVERY_PORT[:3000]) == [*EVERY_PORT[:3000]]
            assert udp_refused(far, address)  # both scanners see
            edges = FirewallEdges(
                processes=LinuxProcesses(),
                program=shutil.which("nft") or "nft",
                is_debug=is_debug,
            )
            async with machine_with(edges, tmp_path).running():
                await edges.is_closed.wait_for(bool)
                assert answering(far, address, EVERY_PORT) == [*open_tcp_ports(is_debug=is_debug)]
                assert not udp_refused(far, address)

    in_new_network(scenario)


def test_the_machine_itself_reaches_everything_and_itself(tmp_path: Path) -> None:
    async def scenario() -> None:
        with neighbour() as far:
            far.cable("port0", "far0", "192.0.2.1/24")
            ip("link set port0 up", "addr add 192.0.2.7/24 dev port0")
            far.start(["python3", "-c", _SERVE, "192.0.2.1", "4711"], ready="serving")
            edges = FirewallEdges(processes=LinuxProcesses())
            async with machine_with(edges, tmp_path).running():
                await edges.is_closed.wait_for(bool)
                reader, writer = await asyncio.open_connection("192.0.2.1", 4711)
                assert await reader.readline() == b"hello\n"
                writer.close()
                async with await asyncio.start_server(_hello, "127.0.0.1", 4712):
                    reader, writer = await asyncio.open_connection("127.0.0.1", 4712)
                    assert await reader.readline() == b"hello\n"
                    writer.close()

    in_new_network(scenario)


def test_loading_again_changes_nothing_and_leaves_other_tables_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        nft("add table inet other")
        listings: list[str] = []
        for _ in range(2):
            edges = FirewallEdges(processes=LinuxProcesses())
            async with machine_with(edges, tmp_path).running():
                await edges.is_closed.wait_for(bool)
            listings.append(nft("--stateless list ruleset"))
        assert listings[0] == listings[1]
        assert "table inet other" in listings[0]
        assert "policy drop" in listings[0]

    in_new_network(scenario)


def nft(arguments: str) -> str:
    done = subprocess.run(["nft", *arguments.split()], check=True, capture_output=True, text=True)
    return done.stdout


def test_the_open_ports_are_those_of_this_build() -> None:
    assert list(open_tcp_ports(is_debug=False)) == [6444, 7834, 7835, 7839, 7840]
    assert list(open_tcp_ports(is_debug=True)) == [6444, 7834, 7835, 7837, 7839, 7840]
    assert set(open_tcp_ports(is_debug=True)) <= set(ports.TCP_PORT_NAMES)


async def _hello(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello\n")
    await writer.drain()
    writer.close()


_SERVE = """
import socket, sys
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("serving", flush=True)
while True:
    c, _ = s.accept()
    c.sendall(b"hello\\n")
    c.close()
"""
_SCAN = """
import errno, json, select, socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
found = []
ports = list(range(int(sys.argv[2]), int(sys.argv[3])))
while ports:
    batch, ports = ports[:4000], ports[4000:]
    poll, open_now = select.poll(), {}
    for port in batch:
        s = socket.socket(family, socket.SOCK_STREAM)
        s.setblocking(False)
        code = s.connect_ex((sys.argv[1], port))
        if code == errno.EINPROGRESS:
            poll.register(s, select.POLLOUT)
            open_now[s.fileno()] = (s, port)
        else:
            found.append(port)
            s.close()
    while open_now and (ready := poll.poll(250)):
        for number, _ in ready:
            s, port = open_now.pop(number)
            poll.unregister(s)
            found.append(port)
            s.close()
    for s, _ in open_now.values():
        s.close()
json.dump(sorted(found), sys.stdout)
"""
_SCAN_UDP = """
import json, socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
refused = []
for port in (53, 67, 68, 123, 323, 546, 7838):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(0.2)
    s.connect((sys.argv[1], port))
    s.send(b"?")
    try:
        s.recv(1)
    except ConnectionRefusedError:
        refused.append(port)
    except TimeoutError:
        pass
json.dump(refused, sys.stdout)
"""
