# SPDX-License-Identifier: Apache-2.0
"""What every network of a machine does, real and simulated."""

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from e2e.network.rig import in_new_network, ip
from metropolis.base.errors import FailedPreconditionError
from metropolis.host.linux.network_links import LinuxLinks
from metropolis.host.network import ROUTE_PROTOCOL_DHCP, Link, LinkAddress, Links, Route
from metropolis.host.sim.network import Segment, SimLinks
from metropolis.sim import simulate

Scenario = Callable[[Links], Awaitable[None]]
Run = Callable[[Scenario], None]


def on_linux(scenario: Scenario) -> None:
    async def prepared() -> None:
        ip("link add eth0 type veth peer name far0", "link set far0 up")
        await scenario(LinuxLinks())

    in_new_network(prepared)


def in_simulation(scenario: Scenario) -> None:
    async def prepared() -> None:
        links = SimLinks()
        links.add_card("eth0", Segment())
        links.add_card("far0", Segment())
        await scenario(links)

    simulate(prepared, seed=1)


@pytest.fixture(params=[on_linux, in_simulation], ids=["linux", "sim"])
def run(request: pytest.FixtureRequest) -> Run:
    chosen: Run = request.param
    return chosen


def card(links: Links, name: str = "eth0") -> Link:
    return next(each for each in links.links() if each.name == name)


def test_a_link_that_is_switched_on_gets_its_carrier(run: Run) -> None:
    async def scenario(links: Links) -> None:
        index = card(links).index
        assert (card(links).is_up, card(links).has_carrier) == (False, False)
        links.change_link(index, is_up=True)
        assert (card(links).is_up, card(links).has_carrier) == (True, True)

    run(scenario)


def test_a_link_keeps_its_index_under_another_name_and_two_cannot_have_one(run: Run) -> None:
    async def scenario(links: Links) -> None:
        index = card(links).index
        links.change_link(index, name="uplink", mtu_bytes=1400)
        assert (card(links, "uplink").index, card(links, "uplink").mtu_bytes) == (index, 1400)
        with pytest.raises(FailedPreconditionError, match="File exists"):
            links.change_link(index, name="far0")
        with pytest.raises(FailedPreconditionError, match="No such device"):
            links.change_link(4711, is_up=True)

    run(scenario)


def test_an_address_is_there_once_however_often_it_is_put(run: Run) -> None:
    async def scenario(links: Links) -> None:
        index = card(links).index
        links.change_link(index, is_up=True)
        interface = IPv4Interface("192.0.2.7/24")
        for valid_s in (None, 100, 200):
            links.put_address(LinkAddress(link_index=index, interface=interface, valid_s=valid_s))
        found = [each for each in links.addresses(index) if each.interface == interface]
        assert len(found) == 1
        assert found[0].valid_s is not None
        assert 190 < found[0].valid_s <= 200
        for _ in range(2):
            links.remove_address(found[0])
            assert interface not in [each.interface for each in links.addresses(index)]

    run(scenario)


def test_an_address_ends_when_its_time_has_come_and_takes_its_routes_along(run: Run) -> None:
    async def scenario(links: Links) -> None:
        index = card(links).index
        links.change_link(index, is_up=True)
        watch = links.watch()
        interface = IPv4Interface("192.0.2.7/24")
        links.put_address(LinkAddress(link_index=index, interface=interface, valid_s=1))
        links.put_route(
            Route(
                link_index=index,
                destination=IPv4Network("0.0.0.0/0"),
                gateway=IPv4Address("192.0.2.1"),
                source=IPv4Address("192.0.2.7"),
                protocol=ROUTE_PROTOCOL_DHCP,
            )
        )
        async with asyncio.timeout(20):
            while interface in [each.interface for each in links.addresses(index)]:
                await watch.receive()
        watch.close()
        assert list(links.routes(index, ROUTE_PROTOCOL_DHCP)) == []

    run(scenario)


def test_a_route_replaces_that_of_the_same_destination_and_metric(run: Run) -> None:
    async def scenario(links: Links) -> None:
        index = card(links).index
        links.change_link(index, is_up=True)
        address = IPv4Interface("192.0.2.7/24")
        links.put_address(LinkAddress(link_index=index, interface=address))
        made = [
            Route(
                link_index=index,
                destination=IPv4Network("198.51.100.0/24"),
                gateway=IPv4Address(f"192.0.2.{last}"),
                metric=metric,
                protocol=ROUTE_PROTOCOL_DHCP,
            )
            for last, metric in ((1, 5), (2, 5), (3, 6))
        ]
        for route in made:
            links.put_route(route)
        assert sorted(links.routes(index, ROUTE_PROTOCOL_DHCP), key=str) == made[1:]
        for _ in range(2):
            links.remove_route(made[1])
        assert list(links.routes(index, ROUTE_PROTOCOL_DHCP)) == made[2:]
        foreign = Route(
            link_index=index,
            destination=IPv4Network("203.0.113.0/24"),
            source=IPv4Address("192.0.2.99"),
        )
        with pytest.raises(FailedPreconditionError, match="Invalid argument"):
            links.put_route(foreign)

    run(scenario)
