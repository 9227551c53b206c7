# SPDX-License-Identifier: Apache-2.0
"""The kernel's links, addresses and routes, as a node sees and changes them."""

import asyncio
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, IPv6Network

import pytest

from e2e.network.rig import SNIFF, in_new_network, ip, neighbour
from metropolis.base.errors import FailedPreconditionError
from metropolis.host.linux.network_links import LinuxLinks
from metropolis.host.linux.packet_socket import LinuxDhcpSockets
from metropolis.host.network import ROUTE_PROTOCOL_DHCP, Link, LinkAddress, Route
from metropolis.protocols.dhcp4.packet import decode_packet, encode_packet


def link(name: str) -> Link:
    return next(each for each in LinuxLinks().links() if each.name == name)


def test_a_link_is_renamed_switched_on_and_made_narrower() -> None:
    async def scenario() -> None:
        ip("link add one type veth peer name other")
        links = LinuxLinks()
        before = link("one")
        assert (before.kind, before.is_ethernet, before.is_up) == ("veth", True, False)
        assert not link("lo").is_ethernet
        links.change_link(before.index, name="uplink", mtu_bytes=1400)
        links.change_link(before.index, is_up=True)
        after = link("uplink")
        assert (after.index, after.mtu_bytes) == (before.index, 1400)
        assert after.is_up
        assert not after.has_carrier
        links.change_link(link("other").index, is_up=True)
        assert link("uplink").has_carrier
        links.change_link(before.index, is_up=False)
        assert not link("uplink").is_up
        links.delete_link(before.index)
        links.delete_link(before.index)

    in_new_network(scenario)


def test_addresses_live_as_long_as_told_and_are_replaced_in_place() -> None:
    async def scenario() -> None:
        ip("link add one type veth peer name other", "link set one up", "link set other up")
        links, index = LinuxLinks(), link("one").index
        address = LinkAddress(
            link_index=index,
            interface=IPv4Interface("192.0.2.7/24"),
            broadcast=IPv4Address("192.0.2.255"),
            valid_s=600,
        )
        links.put_address(address)
        (found,) = _ipv4(links, index)
        assert (found.interface, found.broadcast) == (address.interface, address.broadcast)
        assert found.valid_s is not None
        assert 590 < found.valid_s <= 600
        links.put_address(LinkAddress(link_index=index, interface=address.interface))
        (found,) = _ipv4(links, index)
        assert found.valid_s is None
        links.remove_address(found)
        links.remove_address(found)
        assert _ipv4(links, index) == []
        six = LinkAddress(link_index=index, interface=IPv6Interface("2001:db8::7/64"))
        links.put_address(six)
        assert six.interface in [each.interface for each in links.addresses(index)]

    in_new_network(scenario)


def _ipv4(links: LinuxLinks, index: int) -> list[LinkAddress]:
    return [each for each in links.addresses(index) if each.interface.version == 4]


def test_routes_belong_to_who_made_them() -> None:
    async def scenario() -> None:
        ip("link add one type veth peer name other", "link set one up", "link set other up")
        ip("addr add 192.0.2.7/32 dev one", "route add 203.0.113.0/24 dev one")
        links, index = LinuxLinks(), link("one").index
        default = Route(
            link_index=index,
            destination=IPv4Network("0.0.0.0/0"),
            gateway=IPv4Address("192.0.2.1"),
            source=IPv4Address("192.0.2.7"),
            protocol=ROUTE_PROTOCOL_DHCP,
            metric=5,
        )
        on_link = Route(
            link_index=index,
            destination=IPv4Network("198.51.100.0/24"),
            protocol=ROUTE_PROTOCOL_DHCP,
        )
        links.put_route(default)
        links.put_route(on_link)
        links.put_route(on_link)
        assert sorted(links.routes(index, ROUTE_PROTOCOL_DHCP), key=str) == sorted(
            [default, on_link], key=str
        )
        links.remove_route(default)
        links.remove_route(default)
        assert links.routes(index, ROUTE_PROTOCOL_DHCP) == [on_link]
        six = Route(link_index=index, destination=IPv6Network("2001:db8:1::/48"), metric=7)
        links.put_route(six)
        assert six in links.routes(index, six.protocol)

    in_new_network(scenario)


def test_the_kernel_says_in_words_what_it_refuses() -> None:
    async def scenario() -> None:
        ip("link add one type veth peer name other")
        with pytest.raises(FailedPreconditionError, match=r"cannot change link .*mtu"):
            LinuxLinks().change_link(link("one").index, mtu_bytes=1 << 30)
        assert LinuxLinks().routes(4711, ROUTE_PROTOCOL_DHCP) == []
        assert LinuxLinks().addresses(4711) == []

    in_new_network(scenario)


def test_changes_are_noticed_even_when_nobody_waits_at_that_moment() -> None:
    async def scenario() -> None:
        watch = LinuxLinks().watch()
        try:
            ip("link add one type veth peer name other", "link set one up")
            await watch.receive()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await watch.receive()
            waiting = asyncio.ensure_future(watch.receive())
            ip("addr add 192.0.2.7/24 dev one")
            await waiting
        finally:
            watch.close()

    in_new_network(scenario)


def test_a_dhcp_socket_hears_datagrams_for_its_port_and_nothing_else() -> None:
    async def scenario() -> None:
        with neighbour() as far:
            far.cable("port0", "far0", "192.0.2.1/24")
            links, index = LinuxLinks(), link("port0").index
            links.change_link(index, is_up=True)
            socket = LinuxDhcpSockets().open(index)
            links.change_link(index, is_up=False)
            links.change_link(index, name="uplink")  # a rename does not disturb it
            links.change_link(index, is_up=True)
            try:
                for port in (67, 69, 68):
                    far.run(["python3", "-c", _SEND, "far0", str(port)])
                datagram = decode_packet(await socket.receive())
                assert datagram.payload == b"to port 68"
                sniffer = far.start(["python3", "-c", SNIFF, "far0"], ready="listening")
                assert sniffer.stdout is not None
                address = IPv4Address("192.0.2.7")
                socket.broadcast(encode_packet(b"hello", source=IPv4Address(0)))
                assert sniffer.stdout.readline() == "UDP hello\n"
                socket.announce(address, link("uplink").hardware_address)
                assert sniffer.stdout.readline() == "ARP 192.0.2.7 192.0.2.7\n"
                links.put_address(
                    LinkAddress(link_index=index, interface=IPv4Interface("192.0.2.7/24"))
                )
                socket.send(b"privately", source=address, to=IPv4Address("192.0.2.1"))
                assert sniffer.stdout.readline() == "UDP privately\n"
            finally:
                socket.close()

    in_new_network(scenario)


_SEND = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, sys.argv[1].encode())
s.sendto(f"to port {sys.argv[2]}".encode(), ("255.255.255.255", int(sys.argv[2])))
"""
