# SPDX-License-Identifier: Apache-2.0
"""A machine that nobody configured finds its network by DHCP, from a real server (dnsmasq)."""

import asyncio
import subprocess
from collections.abc import Sequence
from ipaddress import IPv4Interface
from pathlib import Path

from e2e.network.machine import Machine
from e2e.network.rig import SNIFF, Neighbour, in_new_network, ip, neighbour
from metropolis.host.linux.network_links import LinuxLinks
from metropolis.host.network import ROUTE_PROTOCOL_DHCP, Route


def dnsmasq(
    far: Neighbour, root: Path, *options: str, network: str = "192.0.2", lease: str = "2m"
) -> "subprocess.Popen[str]":
    """Serve addresses .100 to .199 of a /24 in which the server is .1."""
    return far.start(
        [
            "dnsmasq",
            "--no-daemon",
            "--conf-file=/dev/null",
            "--port=0",
            "--user=root",
            "--log-dhcp",
            "--no-ping",
            f"--dhcp-leasefile={root / f'leases-{network}'}",
            f"--dhcp-range={network}.100,{network}.199,255.255.255.0,{lease}",
            *options,
        ],
        ready="DHCP, IP range",
    )


def routes(name: str) -> Sequence[Route]:
    links = LinuxLinks()
    index = next(each.index for each in links.links() if each.name == name)
    return links.routes(index, ROUTE_PROTOCOL_DHCP)


def addresses(name: str) -> list[str]:
    links = LinuxLinks()
    index = next(each.index for each in links.links() if each.name == name)
    found = links.addresses(index)
    return [str(each.interface) for each in found if isinstance(each.interface, IPv4Interface)]


def test_a_machine_gets_address_routes_name_and_time_servers(tmp_path: Path) -> None:
    async def scenario() -> None:
        with neighbour() as far:
            far.cable("port0", "far0", "192.0.2.1/24")
            dnsmasq(
                far,
                tmp_path,
                "--dhcp-option=option:router,192.0.2.1",
                "--dhcp-option=option:dns-server,192.0.2.53,192.0.2.54",
                "--dhcp-option=option:ntp-server,192.0.2.123",
                "--dhcp-option=option:mtu,1400",
                "--dhcp-option=121,198.51.100.0/24,192.0.2.9,0.0.0.0/0,192.0.2.254",
            )
            machine = Machine(tmp_path)
            async with machine.running():
                status = await machine.status()
                assert status.addresses[0].startswith("192.0.2.1")
                assert tuple(status.name_servers) == ("192.0.2.53", "192.0.2.54")
                assert tuple(status.time_servers) == ("192.0.2.123",)
                assert addresses("port0") == [f"{status.addresses[0]}/24"]
                found = {str(each.destination): str(each.gateway) for each in routes("port0")}
                assert found == {"198.51.100.0/24": "192.0.2.9", "0.0.0.0/0": "192.0.2.254"}
                await machine.wait_log("Name servers: 192.0.2.53, 192.0.2.54")
                text = (machine.run_path / "resolv.conf").read_text()
                assert "nameserver 192.0.2.53\nnameserver 192.0.2.54\n" in text
                (link,) = [each for each in LinuxLinks().links() if each.name == "port0"]
                assert link.mtu_bytes == 1400
                async with await asyncio.start_server(_ignore, status.addresses[0], 7835):
                    far.run(["python3", "-c", _CONNECT, status.addresses[0], "7835"])

    in_new_network(scenario)


def test_neighbours_are_told_where_an_address_is_now(tmp_path: Path) -> None:
    async def scenario() -> None:
        with neighbour() as far:
            far.cable("port0", "far0", "192.0.2.1/24")
            dnsmasq(far, tmp_path)
            sniffer = far.start(["python3", "-c", SNIFF, "far0"], ready="listening")
            assert sniffer.stdout is not None
            async with Machine(tmp_path).running() as machine:
                status = await machine.status()
                loop = asyncio.get_running_loop()
                line = ""
                while not line.startswith("ARP"):
                    line = await loop.run_in_executor(None, sniffer.stdout.readline)
                assert line == f"ARP {status.addresses[0]} {status.addresses[0]}\n"

    in_new_network(scenario)


def test_the_first_device_that_answers_is_used_and_left_for_another_when_its_cable_is_pulled(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        with neighbour() as mute, neighbour() as far:
            mute.cable("none0", "far1")
            mute.ip("link set far1 down")  # a device without a cable
            mute.cable("mute0", "far0")
            far.cable("port0", "far0", "192.0.2.1/24")
            far.cable("port1", "far1", "198.51.100.1/24")
            machine = Machine(tmp_path)
            async with machine.running():
                await machine.wait_log("Waiting for a DHCP server at mute0, port0, port1")
                first = dnsmasq(far, tmp_path)
                status = await machine.status()
                assert status.addresses[0].startswith("192.0.2.")
                assert addresses("port1") == addresses("mute0") == []
                far.stop(first)
                dnsmasq(far, tmp_path, network="198.51.100")
                far.ip("link set far0 down")
                status = await machine.status(lambda s: s.addresses[0].startswith("198.51.100."))
                assert addresses("port0") == []
                assert addresses("port1") == [f"{status.addresses[0]}/24"]

    in_new_network(scenario)


def test_a_machine_follows_when_its_network_is_renumbered(tmp_path: Path) -> None:
    async def scenario() -> None:
        with neighbour() as far:
            far.cable("port0", "far0", "192.0.2.1/24")
            first = dnsmasq(far, tmp_path)
            machine = Machine(tmp_path)
            async with machine.running():
                await machine.status()
                far.stop(first)
                far.ip("addr flush dev far0", "addr add 203.0.113.1/24 dev far0")
                dnsmasq(far, tmp_path, "--dhcp-authoritative", network="203.0.113")
                far.ip("link set far0 down", "link set far0 up")  # somebody moves the cable
                status = await machine.status(lambda s: s.addresses[0].startswith("203.0.113."))
                assert addresses("port0") == [f"{status.addresses[0]}/24"]

    in_new_network(scenario)


def test_a_device_that_is_plugged_in_later_is_found(tmp_path: Path) -> None:
    async def scenario() -> None:
        with neighbour() as far:
            machine = Machine(tmp_path)
            async with machine.running():
                await machine.wait_log("Waiting for an Ethernet device")
                far.cable("port0", "far0", "192.0.2.1/24")
                dnsmasq(far, tmp_path)
                await machine.status()
                ip("link del port0")
                await machine.wait_lost()
                await machine.wait_log("Lost network address")
                far.cable("port0", "far0", "192.0.2.1/24")
                await machine.status()

    in_new_network(scenario)


def test_no_address_is_taken_before_the_firewall_is_closed(tmp_path: Path) -> None:
    async def scenario() -> None:
        with neighbour() as far:
            far.cable("port0", "far0", "192.0.2.1/24")
            dnsmasq(far, tmp_path)
            machine = Machine(tmp_path, is_guarded=False)
            async with machine.running():
                await machine.wait_log("Waiting for the firewall, before this machine takes an")
                assert addresses("port0") == []
                assert machine.edges.status.current is None
                machine.close_firewall()
                await machine.status()

    in_new_network(scenario)


def _ignore(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)"
