# SPDX-License-Identifier: Apache-2.0
"""The DHCP client against servers that are slow, silent, dead, moved, or lie."""

import math
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise
from random import Random

import pytest

from metropolis.protocols.dhcp4.client import (
    HOLDING,
    PATIENCE_S,
    RETRY_MAX_S,
    Chance,
    Client,
    Configure,
    Deconfigure,
    Event,
    Received,
    Reconnected,
    Remark,
    Send,
    State,
    Tick,
)
from metropolis.protocols.dhcp4.message import Message, MessageType, Option
from unit.protocols.dhcp4_server import IDENTITY, NaiveServer, World, reply

GOOD = IPv4Address("192.0.2.1")
EVIL = IPv4Address("198.51.100.1")
OWN = IPv4Address("192.0.2.7")
TERMS: dict[int, bytes] = {
    Option.SUBNET_MASK: bytes([255, 255, 255, 0]),
    Option.LEASE_TIME: (1000).to_bytes(4, "big"),
}


class Bench:
    """Feeds one client by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.client = Client(identity=IDENTITY, deadline_s=self.now_s, since_s=self.now_s)
        self.draws = 0

    def state(self) -> State:
        return self.client.state

    def feed(self, event: Event) -> list[object]:
        self.draws += 1
        chance = Chance(transaction=self.draws, jitter=0.0)
        self.client, commands = self.client.step(event, now_s=self.now_s, chance=chance)
        return list(commands)

    def tick(self) -> list[object]:
        assert not math.isinf(self.client.deadline_s)
        self.now_s = max(self.now_s, self.client.deadline_s)
        return self.feed(Tick())

    def ask(self) -> Send:
        """Tick, and return the one thing that it sends."""
        (command,) = self.tick()
        assert isinstance(command, Send)
        return command

    def answer(
        self,
        kind: MessageType,
        *,
        server: IPv4Address = GOOD,
        address: IPv4Address = OWN,
        options: dict[int, bytes] | None = None,
    ) -> list[object]:
        question = Message(
            is_reply=False,
            transaction=self.client.transaction,
            hardware_address=IDENTITY.hardware_address,
        )
        content = {**TERMS, **(options or {})}
        return self.feed(
            Received(reply(question, kind, server=server, address=address, options=content))
        )

    def bind(self) -> None:
        self.ask()
        self.answer(MessageType.OFFER)
        (command,) = self.answer(MessageType.ACK)
        assert isinstance(command, Configure)


def test_it_discovers_requests_and_is_bound() -> None:
    bench = Bench()
    discover = bench.ask()
    assert discover.to is None
    assert discover.message.type is MessageType.DISCOVER
    assert discover.message.options[Option.VENDOR_CLASS] == b"test.v1"
    (request,) = bench.answer(MessageType.OFFER)
    assert isinstance(request, Send)
    assert request.message.type is MessageType.REQUEST
    assert request.message.address_option(Option.REQUESTED_ADDRESS) == OWN
    assert request.message.address_option(Option.SERVER_IDENTIFIER) == GOOD
    assert request.message.client_address == IPv4Address(0)
    (configure,) = bench.answer(MessageType.ACK)
    assert isinstance(configure, Configure)
    assert str(configure.lease.address) == "192.0.2.7/24"
    assert configure.expires_s == bench.now_s + 1000
    assert bench.state() is State.BOUND


def test_it_never_gives_up_and_waits_longer_each_time_up_to_thirty_seconds() -> None:
    bench = Bench()
    times = [(bench.ask(), bench.now_s)[1] for _ in range(10)]
    waits = [after - before for before, after in pairwise(times)]
    assert waits[:4] == pytest.approx([1.4, 2.8, 5.6, 11.2])
    assert waits[5:] == pytest.approx([RETRY_MAX_S] * 4)


def test_it_renews_at_half_time_by_asking_its_server_alone() -> None:
    bench = Bench()
    bench.bind()
    granted_s = bench.now_s
    request = bench.ask()
    assert bench.now_s == granted_s + 500
    assert bench.state() is State.RENEWING
    assert request.to == GOOD
    assert request.message.client_address == OWN
    assert Option.REQUESTED_ADDRESS not in request.message.options
    assert Option.SERVER_IDENTIFIER not in request.message.options
    (configure,) = bench.answer(MessageType.ACK)
    assert isinstance(configure, Configure)
    assert configure.expires_s == bench.now_s + 1000


def test_a_dead_server_leads_to_rebinding_and_then_to_the_end_of_the_lease() -> None:
    bench = Bench()
    bench.bind()
    granted_s = bench.now_s
    request = bench.ask()
    while bench.state() is not State.REBINDING:
        request = bench.ask()
    assert bench.now_s == pytest.approx(granted_s + 850)
    assert request.to is None
    assert request.message.client_address == OWN
    commands: list[object] = []
    while bench.state() is State.REBINDING:
        commands = bench.tick()
    assert bench.now_s == pytest.approx(granted_s + 1000)
    assert [type(each) for each in commands] == [Deconfigure]
    assert bench.ask().message.type is MessageType.DISCOVER
    assert bench.now_s == pytest.approx(granted_s + 1000)


def test_any_server_may_rebind_and_becomes_the_server() -> None:
    bench = Bench()
    bench.bind()
    while bench.state() is not State.REBINDING:
        bench.ask()
    bench.answer(MessageType.ACK, server=EVIL)
    assert bench.state() is State.BOUND
    assert bench.ask().to == EVIL


def test_a_refusal_to_renew_gives_the_address_up_at_once() -> None:
    bench = Bench()
    bench.bind()
    bench.ask()
    (command,) = bench.answer(MessageType.NAK)
    assert isinstance(command, Deconfigure)
    assert bench.state() is State.DISCOVERING
    assert bench.client.deadline_s == bench.now_s


def test_a_refusal_by_a_server_that_was_not_asked_is_ignored() -> None:
    bench = Bench()
    bench.ask()
    bench.answer(MessageType.OFFER)
    assert bench.answer(MessageType.NAK, server=EVIL) == []
    assert bench.state() is State.REQUESTING
    bench.answer(MessageType.ACK)
    bench.ask()
    assert bench.answer(MessageType.NAK, server=EVIL) == []
    assert bench.answer(MessageType.ACK, server=EVIL) == []
    assert bench.state() is State.RENEWING


def test_a_new_network_behind_the_same_cable_is_noticed_when_the_cable_is_put_back() -> None:
    bench = Bench()
    bench.bind()
    (request,) = bench.feed(Reconnected())
    assert isinstance(request, Send)
    assert request.to is None
    assert bench.state() is State.REBINDING
    (command,) = bench.answer(MessageType.NAK, server=EVIL)
    assert isinstance(command, Deconfigure)


def test_after_a_new_carrier_everybody_is_asked_until_somebody_answers() -> None:
    bench = Bench()
    bench.bind()
    bench.feed(Reconnected())
    assert [bench.ask().to for _ in range(5)] == [None] * 5
    assert bench.state() is State.REBINDING


def test_a_renumbering_server_is_believed() -> None:
    bench = Bench()
    bench.bind()
    bench.ask()
    (command,) = bench.answer(MessageType.ACK, address=IPv4Address("192.0.2.99"))
    assert isinstance(command, Configure)
    assert str(command.lease.address) == "192.0.2.99/24"
    request = bench.ask()
    assert request.message.client_address == IPv4Address("192.0.2.99")


def test_a_server_that_never_confirms_loses_to_one_that_does() -> None:
    bench = Bench()
    bench.ask()
    bench.answer(MessageType.OFFER, server=EVIL)
    started_s = bench.now_s
    commands: list[object] = []
    while bench.state() is State.REQUESTING:
        commands = bench.tick()
    assert bench.now_s == pytest.approx(started_s + PATIENCE_S)
    assert [type(each) for each in commands] == [Remark]
    bench.ask()
    assert bench.answer(MessageType.OFFER, server=EVIL) == []  # kept in reserve
    (request,) = bench.answer(MessageType.OFFER, server=GOOD)
    assert isinstance(request, Send)
    assert request.message.address_option(Option.SERVER_IDENTIFIER) == GOOD


def test_a_server_that_takes_offers_back_is_asked_again_ever_more_slowly_if_it_is_alone() -> None:
    bench = Bench()
    requests_s = []
    for _ in range(8):
        while bench.state() is State.DISCOVERING:
            (command,) = bench.tick()
            assert isinstance(command, Send)
            if command.message.type is MessageType.DISCOVER:
                bench.answer(MessageType.OFFER, server=EVIL)
        requests_s.append(bench.now_s)
        bench.answer(MessageType.NAK, server=EVIL)
    waits = [after - before for before, after in pairwise(requests_s)]
    assert waits == sorted(waits)
    assert waits[0] >= 1.4
    assert waits[-1] >= RETRY_MAX_S


@pytest.mark.parametrize(
    "options",
    [
        {Option.LEASE_TIME: bytes(4)},
        {Option.LEASE_TIME: b""},
        {Option.SERVER_IDENTIFIER: b""},
        {Option.SERVER_IDENTIFIER: bytes(4)},
        {Option.SUBNET_MASK: bytes([255, 0, 255, 0])},
        {Option.SUBNET_MASK: bytes([0, 0, 0, 255])},
        {Option.SUBNET_MASK: bytes(4)},
    ],
    ids=["no time", "empty time", "no server", "server 0", "holes", "inverted", "everything"],
)
def test_senseless_offers_and_leases_are_refused(options: dict[int, bytes]) -> None:
    bench = Bench()
    bench.ask()
    assert [type(each) for each in bench.answer(MessageType.OFFER, options=options)] == [Remark]
    bench.answer(MessageType.OFFER)
    commands = bench.answer(MessageType.ACK, options=options)
    assert all(isinstance(each, Remark) for each in commands)
    assert bench.state() is State.REQUESTING


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.0", "192.0.2.255"]
)
def test_addresses_that_no_machine_can_have_are_refused(address: str) -> None:
    bench = Bench()
    bench.ask()
    commands = bench.answer(MessageType.OFFER, address=IPv4Address(address))
    assert [type(each) for each in commands] == [Remark]


def test_an_answer_to_another_question_or_for_another_machine_is_dropped() -> None:
    bench = Bench()
    question = bench.ask().message
    offer = reply(question, MessageType.OFFER, server=GOOD, address=OWN, options=TERMS)
    for stranger in (
        replace(offer, transaction=offer.transaction + 1),
        replace(offer, hardware_address=bytes(6)),
        replace(offer, is_reply=False),
    ):
        assert bench.feed(Received(stranger)) == []
    assert len(bench.feed(Received(offer))) == 1


def test_a_rapid_commit_binds_at_once_and_a_plain_early_confirmation_does_not() -> None:
    bench = Bench()
    bench.ask()
    assert bench.answer(MessageType.ACK) == []
    (command,) = bench.answer(MessageType.ACK, options={Option.RAPID_COMMIT: b""})
    assert isinstance(command, Configure)
    assert bench.state() is State.BOUND


def test_an_endless_lease_is_never_renewed() -> None:
    bench = Bench()
    bench.ask()
    bench.answer(MessageType.OFFER)
    bench.answer(MessageType.ACK, options={Option.LEASE_TIME: b"\xff" * 4})
    assert math.isinf(bench.client.deadline_s)
    (request,) = bench.feed(Reconnected())
    assert isinstance(request, Send)


def test_a_lease_counts_from_the_request_and_not_from_its_answer() -> None:
    bench = Bench()
    bench.ask()
    bench.answer(MessageType.OFFER)
    asked_s = bench.now_s
    bench.tick()  # asks once more
    bench.now_s += 5
    (command,) = bench.answer(MessageType.ACK)
    assert isinstance(command, Configure)
    assert command.expires_s == asked_s + 1000


@pytest.mark.parametrize("seed", range(60))
def test_on_a_lossy_network_an_address_is_used_only_while_the_server_keeps_it(seed: int) -> None:
    rng = Random(seed)
    first = NaiveServer(IPv4Network("10.0.1.0/24"), lease_s=rng.choice([2, 30, 600, 86400]))
    second = NaiveServer(
        IPv4Network("10.0.2.0/24"), lease_s=30, is_alive=False, offers_only=rng.random() < 0.3
    )
    world = World(rng, [first, second], loss=rng.choice([0.0, 0.2, 0.5]))
    for _ in range(20):
        match rng.randrange(5):
            case 0:
                first.is_alive = not first.is_alive
            case 1:
                second.is_alive = not second.is_alive
            case 2:
                world.feed(Reconnected())
            case 3:
                first.network = rng.choice([IPv4Network("10.0.1.0/24"), IPv4Network("10.9.0.0/16")])
                second.is_alive = False
                return_to_calm(world, first)
            case _:
                pass
        world.run(rng.choice([0.5, 20, 400, 1.2 * first.lease_s]))
    return_to_calm(world, first)


def return_to_calm(world: World, server: NaiveServer) -> None:
    """With one good server and no more loss there is an address of its network, soon."""
    for each in world.servers:
        each.is_alive = each is server
    loss, world.loss = world.loss, 0.0
    server.lease_s = max(server.lease_s, 30)
    world.feed(Reconnected())
    world.run(200)
    world.loss = loss
    assert world.client.state in HOLDING
    assert world.held is not None
    assert world.held[0].address.ip == server.leased


def test_the_simulated_networks_reach_every_state() -> None:
    seen: set[State] = set()
    for seed in range(10):
        server = NaiveServer(IPv4Network("10.0.1.0/24"), lease_s=60)
        world = World(Random(seed), [server], loss=0.3)
        world.run(100)
        server.is_alive = False
        world.run(100)
        seen |= world.seen
    assert seen == set(State)


def test_a_silent_network_is_not_flooded() -> None:
    world = World(Random(1), [NaiveServer(IPv4Network("10.0.1.0/24"), lease_s=2)], loss=0.0)
    world.run(3600)
    assert len(world.sent) < 3 * 3600
    lonely = World(Random(1), [], loss=0.0)
    lonely.run(3600)
    assert len(lonely.sent) < 160
