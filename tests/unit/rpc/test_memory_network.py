# SPDX-License-Identifier: Apache-2.0
"""The faults of the simulated network, as callers and handlers feel them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import BytesValue

from metropolis.api.methods import Cardinality, Method
from metropolis.base.errors import MetropolisError, UnavailableError
from metropolis.host.sim.entropy import SimEntropy
from metropolis.pki.certificates import issue_ephemeral
from metropolis.pki.credentials import Credentials
from metropolis.pki.keys import generate_key
from metropolis.rpc.channel import Channel, ServerStream, Services
from metropolis.rpc.memory.network import MemoryNetwork
from metropolis.rpc.memory.transport import MemoryTransport
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.rpc.status import NotReachedError
from metropolis.rpc.transport import Endpoint
from metropolis.sim import simulate

KEY = generate_key(SimEntropy(1))
CREDENTIALS = Credentials(certificate=issue_ephemeral(KEY), key=KEY)
A, B = "10.0.0.1", "10.0.0.2"
AT = Endpoint(A, 7835)


def method(name: str, cardinality: Cardinality) -> Method[BytesValue, BytesValue]:
    return Method(
        path=f"/test.Network/{name}",
        request_type=BytesValue,
        response_type=BytesValue,
        cardinality=cardinality,
        needs=(),
        allow_unauthenticated=True,
    )


ASK = method("Ask", Cardinality.UNARY_UNARY)
WATCH = method("Watch", Cardinality.UNARY_STREAM)


class Gate:
    ca_certificate: bytes | None = None

    def authenticate(
        self, method: Method[Any, Any], certificate: bytes | None, address: str
    ) -> Peer:
        del method
        return Peer(kind=PeerKind.EPHEMERAL, address=address, certificate=certificate or b"")


class Counter:
    """A server that counts what it did, and streams until it is stopped."""

    def __init__(self, network: MemoryNetwork) -> None:
        self.network = network
        self.asked: list[bytes] = []
        self.watchers_ended: list[float] = []
        self.channel: Channel
        self.other: Channel

    async def _ask(self, request: BytesValue, _peer: Peer) -> BytesValue:
        self.asked.append(request.value)
        return request

    async def _watch(self, stream: ServerStream[BytesValue, BytesValue]) -> None:
        try:
            await stream.send(BytesValue(value=b"first"))
            await asyncio.Event().wait()
        finally:
            self.watchers_ended.append(asyncio.get_running_loop().time())

    @property
    def services(self) -> Services:
        services = Services()
        services.unary(ASK, self._ask)
        services.stream(WATCH, self._watch)
        return services

    async def ask(self, text: bytes = b"x", *, timeout_s: float = 10.0) -> bytes:
        return (await self.channel.call(ASK, BytesValue(value=text), timeout_s=timeout_s)).value


@asynccontextmanager
async def serving(network: MemoryNetwork) -> AsyncIterator[Counter]:
    counter = Counter(network)
    counter.channel = MemoryTransport(network, B).dial(
        AT, credentials=None, verify=lambda _certificate: None
    )
    async with listening(counter):
        yield counter
        await counter.channel.close()


def listening(counter: Counter) -> Any:
    return MemoryTransport(counter.network, A).serve(
        AT, credentials=CREDENTIALS, services=counter.services, authenticator=Gate()
    )


def now_s() -> float:
    return asyncio.get_running_loop().time()


def run(scenario: Callable[[Counter], Awaitable[None]], *, seed: int) -> None:
    async def main() -> None:
        async with serving(MemoryNetwork(Random(seed))) as counter:
            await scenario(counter)

    simulate(main, seed=seed)


SEEDS = pytest.mark.parametrize("seed", range(5))


@SEEDS
def test_a_call_costs_round_trips_and_nothing_more(seed: int) -> None:
    async def scenario(counter: Counter) -> None:
        counter.network.set_latency(0.1, 0.1)
        await counter.ask()
        assert now_s() == pytest.approx(0.6, abs=0.01)  # TCP, TLS, the call
        await counter.ask()
        assert now_s() == pytest.approx(0.8, abs=0.01)

    run(scenario, seed=seed)


@SEEDS
def test_a_split_is_noticed_by_the_client_in_3_to_9_s_and_by_the_server_later(seed: int) -> None:
    async def scenario(counter: Counter) -> None:
        async with counter.channel.open(WATCH) as watch:
            await watch.send(BytesValue())
            assert await watch.receive() is not None
            split_s = now_s()
            counter.network.split([A], [B])
            with pytest.raises(UnavailableError, match="pings"):
                await watch.receive()
            assert 3 <= now_s() - split_s <= 9
            assert counter.watchers_ended == []
            await asyncio.sleep(80)
            assert 20 <= counter.watchers_ended[0] - split_s <= 80

    run(scenario, seed=seed)


@SEEDS
def test_a_split_that_heals_soon_only_delays(seed: int) -> None:
    async def scenario(counter: Counter) -> None:
        async with counter.channel.open(WATCH) as watch, asyncio.TaskGroup() as tasks:
            await watch.send(BytesValue())
            assert await watch.receive() is not None
            counter.network.split([A], [B])
            answer = tasks.create_task(counter.ask(b"patience"))
            await asyncio.sleep(4)
            assert counter.asked == []
            counter.network.heal()
            assert await answer == b"patience"
            await asyncio.sleep(200)
            assert counter.watchers_ended == []

    run(scenario, seed=seed)


def test_repeated_faults_do_not_postpone_the_discovery_of_the_first() -> None:
    async def scenario(counter: Counter) -> None:
        async with counter.channel.open(WATCH) as watch, asyncio.TaskGroup() as tasks:
            await watch.send(BytesValue())
            await watch.receive()
            counter.network.cut(A, B)
            silenced_s = now_s()
            more = tasks.create_task(cut_more(counter.network))
            with pytest.raises(UnavailableError):
                await watch.receive()
            assert now_s() - silenced_s <= 9
            await more

    async def cut_more(network: MemoryNetwork) -> None:
        for number in range(10, 50):
            await asyncio.sleep(1)
            network.cut(A, f"10.0.0.{number}")

    run(scenario, seed=1)


@SEEDS
def test_a_call_whose_reply_is_lost_was_executed_all_the_same(seed: int) -> None:
    async def scenario(counter: Counter) -> None:
        await counter.ask(b"before")
        counter.network.cut(A, B)  # replies only
        with pytest.raises(UnavailableError):
            await counter.ask(b"lost", timeout_s=100)
        assert counter.asked == [b"before", b"lost"]
        counter.network.heal()
        assert await counter.ask(b"after") == b"after"

    run(scenario, seed=seed)


def test_resets_hit_calls_before_and_after_they_are_executed() -> None:
    async def scenario(counter: Counter) -> None:
        counter.network.set_resets(0.2)
        failed = []
        for number in range(200):
            try:
                await counter.ask(b"%d" % number)
            except UnavailableError:
                failed.append(b"%d" % number)
        executed = set(counter.asked)
        assert any(each in executed for each in failed)
        assert any(each not in executed for each in failed)
        assert len(counter.asked) == len(executed), "no call runs twice by itself"
        counter.network.set_resets(0.0)
        await counter.ask(b"calm")

    run(scenario, seed=1)


def test_loss_delays_and_loses_no_call() -> None:
    async def scenario(counter: Counter) -> None:
        counter.network.set_loss(0.2)
        for number in range(100):
            assert await counter.ask(b"%d" % number, timeout_s=60) == b"%d" % number
        assert now_s() > 1

    run(scenario, seed=1)


def test_who_is_in_no_group_of_a_split_reaches_everybody() -> None:
    async def scenario(counter: Counter) -> None:
        counter.network.split([A], ["10.0.0.9"])
        await counter.ask()

    run(scenario, seed=1)


def test_loopback_is_every_machines_own_and_beside_its_address() -> None:
    async def scenario() -> None:
        network = MemoryNetwork(Random(1))
        counters = {address: Counter(network) for address in (A, B)}
        loopback = Endpoint("127.0.0.1", 7835)

        async def serve(address: str, at: Endpoint, done: asyncio.Event) -> None:
            async with MemoryTransport(network, address).serve(
                at,
                credentials=CREDENTIALS,
                services=counters[address].services,
                authenticator=Gate(),
            ):
                await done.wait()

        done = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for address in (A, B):
                tasks.create_task(serve(address, loopback, done))
                tasks.create_task(serve(address, Endpoint(address, 7835), done))
            await asyncio.sleep(0)
            network.split([A], [B])
            for address in (A, B):
                channel = MemoryTransport(network, address).dial(
                    loopback, credentials=None, verify=lambda _certificate: None
                )
                await channel.call(ASK, BytesValue(value=address.encode()))
                await channel.close()
            done.set()
        assert [counters[each].asked for each in (A, B)] == [[A.encode()], [B.encode()]]

    simulate(scenario, seed=1)


def test_nobody_waits_longer_than_10_s_for_a_connection() -> None:
    async def scenario(counter: Counter) -> None:
        counter.network.split([A], [B])
        with pytest.raises(NotReachedError, match="did not answer within 10 s"):
            await counter.ask(timeout_s=100)
        assert now_s() == 10

    run(scenario, seed=1)


@SEEDS
def test_a_machine_without_power_says_nothing_and_resets_old_connections_when_back(
    seed: int,
) -> None:
    async def scenario() -> None:
        network = MemoryNetwork(Random(seed))
        counter = Counter(network)
        counter.channel = MemoryTransport(network, B).dial(
            AT, credentials=None, verify=lambda _certificate: None
        )
        off = asyncio.Event()

        async def node() -> None:
            async with listening(counter):
                await off.wait()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(node())
            await counter.ask()
            async with counter.channel.open(WATCH) as watch:
                await watch.send(BytesValue())
                await watch.receive()
                network.power_off(A)
                off.set()
                begin_s = now_s()
                await asyncio.sleep(2)
                network.power_on(A)
                with pytest.raises(UnavailableError, match="reset"):
                    await watch.receive()
                assert now_s() - begin_s <= 12
            with pytest.raises(NotReachedError, match="nothing listens"):
                await counter.ask()
        async with listening(counter):
            assert await counter.ask(b"again") == b"again"
        await counter.channel.close()

    simulate(scenario, seed=seed)


def test_a_machine_without_power_can_neither_serve_nor_call() -> None:
    async def scenario() -> None:
        network = MemoryNetwork(Random(1))
        counter = Counter(network)
        network.power_off(A)
        with pytest.raises(UnavailableError, match="cannot listen"):
            async with listening(counter):
                pass
        channel = MemoryTransport(network, A).dial(
            Endpoint(B, 1), credentials=None, verify=lambda _certificate: None
        )
        with pytest.raises(NotReachedError):
            await channel.call(ASK, BytesValue(), timeout_s=100)

    simulate(scenario, seed=1)


def test_a_bug_in_a_handler_is_reported_to_who_wants_to_know() -> None:
    bugs: list[BaseException] = []

    async def scenario() -> None:
        network = MemoryNetwork(Random(1), report_bug=bugs.append)

        async def fail(_request: BytesValue, _peer: Peer) -> BytesValue:
            raise ValueError("a bug")

        async def refuse(_request: BytesValue, _peer: Peer) -> BytesValue:
            raise UnavailableError("no bug")

        for handler in (fail, refuse):
            services = Services()
            services.unary(ASK, handler)
            channel = MemoryTransport(network, B).dial(
                AT, credentials=None, verify=lambda _certificate: None
            )
            async with MemoryTransport(network, A).serve(
                AT, credentials=CREDENTIALS, services=services, authenticator=Gate()
            ):
                with pytest.raises(MetropolisError):
                    await channel.call(ASK, BytesValue())
                await channel.close()

    simulate(scenario, seed=1)
    assert [str(bug) for bug in bugs] == ["a bug"]
