# SPDX-License-Identifier: Apache-2.0
"""The whole network of a machine in virtual time: hours of leases, dead servers, moved cables."""

import asyncio
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from random import Random
from typing import Self

import pytest

from metropolis.host.network import ROUTE_PROTOCOL_DHCP
from metropolis.host.sim.clock import SimClock
from metropolis.host.sim.directory import SimDirectory
from metropolis.host.sim.disk import SimDisk
from metropolis.host.sim.entropy import SimEntropy
from metropolis.host.sim.network import Segment, SimDhcpSockets, SimKernelSettings, SimLinks
from metropolis.node.network.edges import NetworkEdges
from metropolis.node.network.runnable import network
from metropolis.node.network.status import NetworkStatus
from metropolis.node.storage import NodeStorage
from metropolis.protocols.dhcp4.message import Message, Option, decode, encode
from metropolis.protocols.dhcp4.packet import encode_packet
from metropolis.sim import simulate
from metropolis.supervision import LogTree, Supervisor, Value
from unit.protocols.dhcp4_server import NaiveServer


class Site:
    """Some segments with a server each, and a machine."""

    def __init__(self, seed: int, *, cards: int = 1, loss: float = 0.0) -> None:
        self.rng = Random(seed)
        self.loss = loss
        self.segments = [Segment() for _ in range(cards)]
        self.links = SimLinks()
        self.cards: list[int] = []
        self.servers: list[NaiveServer] = []
        for number, segment in enumerate(self.segments):
            server = NaiveServer(IPv4Network(f"10.0.{number}.0/24"), lease_s=3600)
            self.servers.append(server)
            segment.servers.append(partial(self._serve, segment, server))
            self.cards.append(
                self.links.add_card(f"eth{number}", segment, place=f"0000:{number:02}")
            )
        self.clock = SimClock()
        self.edges = NetworkEdges(
            clock=self.clock,
            entropy=SimEntropy(seed),
            links=self.links,
            dhcp=SimDhcpSockets(self.links, self.segments),
            settings=SimKernelSettings(),
            storage=NodeStorage(SimDirectory(SimDisk(Random(seed)), mount_point="/")),
            run=SimDirectory(SimDisk(Random(seed)), mount_point="/run"),
            status=Value(None),
        )

    def _serve(self, segment: Segment, server: NaiveServer, packet: bytes) -> None:
        """Answer as a server whose address is that of its network, over a network that loses."""
        loop = asyncio.get_running_loop()
        if self.rng.random() < self.loss:
            return
        question = decode(packet[28:])
        for answer in server.answer(question, now_s=loop.time()):
            if self.rng.random() >= self.loss:
                loop.call_later(self.rng.uniform(0.001, 0.1), self._tell, segment, server, answer)

    @staticmethod
    def _tell(segment: Segment, server: NaiveServer, answer: Message) -> None:
        packet = encode_packet(encode(answer), source=server.address)
        segment.deliver(packet[:20] + packet[22:24] + packet[20:22] + packet[24:])

    def addresses(self) -> list[str]:
        return [
            str(each.interface.ip) for card in self.cards for each in self.links.addresses(card)
        ]

    def destinations(self) -> list[str]:
        """Where the routes that DHCP gave lead."""
        found = self.links.routes(self.cards[0], ROUTE_PROTOCOL_DHCP)
        return sorted(str(each.destination) for each in found)

    async def status(self) -> NetworkStatus:
        found = await self.edges.status.wait_for(lambda status: status is not None)
        assert found is not None
        return found

    async def __aenter__(self) -> Self:
        log_tree = LogTree(clock=self.clock)
        supervisor = Supervisor(
            partial(network, edges=self.edges),
            log_tree=log_tree,
            clock=self.clock,
            rng=Random(1),
        )
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._running = self._group.create_task(supervisor.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        await self._group.__aexit__(None, None, None)


@pytest.mark.parametrize("loss", [0.0, 0.3], ids=["calm", "lossy"])
def test_an_address_stays_for_days_while_the_server_lives(loss: float) -> None:
    async def scenario() -> None:
        async with Site(1, loss=loss) as site:
            status = await site.status()
            assert list(status.addresses) == ["10.0.0.7"]
            version = site.edges.status.version
            for _ in range(72):
                await asyncio.sleep(3600)
                assert site.addresses() == ["10.0.0.7"]
                assert site.links.routes(site.cards[0], ROUTE_PROTOCOL_DHCP) != []
            assert site.edges.status.version == version

    simulate(scenario, seed=1, limit_s=500_000)


def test_a_dead_servers_address_is_given_up_when_its_time_has_come_and_not_before() -> None:
    async def scenario() -> None:
        async with Site(2) as site:
            await site.status()
            site.servers[0].is_alive = False
            await asyncio.sleep(1700)
            assert site.addresses() == ["10.0.0.7"]
            await site.edges.status.wait_for(lambda status: status is None)
            assert site.addresses() == []
            assert asyncio.get_running_loop().time() == pytest.approx(3600, abs=30)
            assert site.edges.waits_for.current == "a DHCP server at eth0"
            site.servers[0].is_alive = True
            await site.status()
            assert site.addresses() == ["10.0.0.7"]

    simulate(scenario, seed=2, limit_s=20_000)


def test_a_network_that_is_renumbered_takes_the_address_with_it() -> None:
    async def scenario() -> None:
        async with Site(3) as site:
            await site.status()
            site.servers[0].network = IPv4Network("10.9.0.0/16")
            await site.edges.status.wait_for(
                lambda status: status is not None and status.addresses[0] == "10.9.0.7"
            )
            assert site.addresses() == ["10.9.0.7"]
            (route,) = site.links.routes(site.cards[0], ROUTE_PROTOCOL_DHCP)
            assert route.gateway == IPv4Address("10.9.0.1")

    simulate(scenario, seed=3, limit_s=20_000)


def test_routes_that_the_server_no_longer_gives_go_and_the_others_stay() -> None:
    async def scenario() -> None:
        async with Site(4) as site:
            one, two = bytes([24, 10, 1, 1, 10, 0, 0, 1]), bytes([24, 10, 1, 2, 10, 0, 0, 1])
            site.servers[0].extra = {Option.CLASSLESS_ROUTES: one + two}
            await site.status()
            assert site.destinations() == ["10.1.1.0/24", "10.1.2.0/24"]
            site.servers[0].extra = {Option.CLASSLESS_ROUTES: two}
            await asyncio.sleep(1900)
            assert site.destinations() == ["10.1.2.0/24"]

    simulate(scenario, seed=4, limit_s=20_000)


def test_a_cable_that_is_put_in_at_last_is_noticed_at_once() -> None:
    async def scenario() -> None:
        async with Site(5) as site:
            site.links.plug(site.cards[0], None)
            await asyncio.sleep(3600)
            site.links.plug(site.cards[0], site.segments[0])
            async with asyncio.timeout(1):
                await site.status()

    simulate(scenario, seed=5, limit_s=20_000)


def test_a_cable_that_is_moved_to_another_network_brings_an_address_of_that() -> None:
    async def scenario() -> None:
        async with Site(6, cards=2) as site:
            site.links.plug(site.cards[1], None)
            await site.edges.status.wait_for(lambda s: s is not None)
            site.links.plug(site.cards[0], site.segments[1])
            async with asyncio.timeout(5):
                await site.edges.status.wait_for(
                    lambda s: s is not None and s.addresses[0] == "10.0.1.7"
                )

    simulate(scenario, seed=6, limit_s=20_000)


@pytest.mark.parametrize("seed", range(20))
def test_of_several_cards_the_same_one_is_chosen_however_the_answers_come(seed: int) -> None:
    async def scenario() -> None:
        async with Site(seed, cards=3) as site:
            site.servers[0].is_alive = False
            status = await site.status()
            assert list(status.addresses) == ["10.0.1.7"]
            await asyncio.sleep(100)
            assert site.addresses() == ["10.0.1.7"]

    simulate(scenario, seed=seed, limit_s=1000)


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_to_cables_and_servers_there_is_a_network_again_in_the_end(
    seed: int,
) -> None:
    async def scenario() -> None:
        async with Site(seed, cards=2, loss=0.2) as site:
            rng = Random(seed)
            for _ in range(30):
                number = rng.randrange(2)
                match rng.randrange(4):
                    case 0:
                        site.links.plug(site.cards[number], rng.choice([None, *site.segments]))
                    case 1:
                        site.servers[number].is_alive = not site.servers[number].is_alive
                    case 2:
                        site.links.change_link(site.cards[number], is_up=False)
                    case _:
                        pass
                await asyncio.sleep(rng.choice([0.01, 1, 100, 2000]))
                assert len(site.addresses()) <= 1
            for card, segment, server in zip(site.cards, site.segments, site.servers, strict=True):
                server.is_alive = True
                site.links.plug(card, segment)
            site.loss = 0.0
            await asyncio.sleep(400)
            assert len(site.addresses()) == 1
            assert list((await site.status()).addresses) == site.addresses()

    simulate(scenario, seed=seed, limit_s=200_000)
