# SPDX-License-Identifier: Apache-2.0
"""What every transport does, over real sockets or simulated ones. Each promise is asked of both."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import BytesValue

from metropolis.api.methods import Cardinality, Method
from metropolis.base.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from metropolis.host.sim.entropy import SimEntropy
from metropolis.pki.certificates import (
    Authority,
    issue_cluster_ca,
    issue_ephemeral,
    issue_node,
)
from metropolis.pki.credentials import Credentials
from metropolis.pki.keys import generate_key, raw_public_key
from metropolis.rpc.channel import Channel, Packed, ServerStream, Services
from metropolis.rpc.grpc import GrpcTransport
from metropolis.rpc.memory.network import MemoryNetwork
from metropolis.rpc.memory.transport import MemoryTransport
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.rpc.status import NotLeaderError, NotReachedError
from metropolis.rpc.transport import Endpoint, Server, ServerVerifier, Transport
from metropolis.sim import simulate

MIB = 1 << 20
Bytes = Method[BytesValue, BytesValue]
Stream = ServerStream[BytesValue, BytesValue]


def method(name: str, cardinality: Cardinality) -> Bytes:
    return Method(
        path=f"/test.Contract/{name}",
        request_type=BytesValue,
        response_type=BytesValue,
        cardinality=cardinality,
        needs=(),
        allow_unauthenticated=True,
    )


UNARY = method("Unary", Cardinality.UNARY_UNARY)
OTHER = method("Other", Cardinality.UNARY_UNARY)
DOWN = method("Down", Cardinality.UNARY_STREAM)
UP = method("Up", Cardinality.STREAM_UNARY)
BOTH = method("Both", Cardinality.STREAM_STREAM)


def credentials(seed: int) -> Credentials:
    key = generate_key(SimEntropy(seed))
    return Credentials(certificate=issue_ephemeral(key), key=key)


SERVER = credentials(1)
CLIENT = credentials(2)


class Gate:
    """Lets everybody in but those who call `forbidden`; names callers by their certificate."""

    def __init__(self, forbidden: str = "") -> None:
        self.forbidden = forbidden
        self.ca_certificate: bytes | None = None

    def authenticate(
        self, method: Method[Any, Any], certificate: bytes | None, address: str
    ) -> Peer:
        if method.path == self.forbidden:
            raise PermissionDeniedError("not you", remedy="Ask somebody else.")
        kind = PeerKind.ANONYMOUS if certificate is None else PeerKind.EPHEMERAL
        return Peer(kind=kind, address=address, certificate=certificate or b"")


def accept_any(_certificate: bytes) -> None:
    """Verify nothing."""


@dataclass(frozen=True)
class World:
    """Two ends and the way to run a scenario between them."""

    run: Callable[[Callable[[], Awaitable[None]]], None]
    server: Transport
    client: Transport
    at: Endpoint
    client_address: str

    @asynccontextmanager
    async def connect(
        self,
        services: Services,
        *,
        gate: Gate | None = None,
        client: Credentials | None = CLIENT,
        verify: ServerVerifier = accept_any,
    ) -> AsyncIterator[tuple[Server, Channel]]:
        async with self.server.serve(
            self.at, credentials=SERVER, services=services, authenticator=gate or Gate()
        ) as server:
            channel = self.client.dial(server.endpoint, credentials=client, verify=verify)
            try:
                yield server, channel
            finally:
                await channel.close()


@pytest.fixture(params=["grpc", "memory-1", "memory-2", "memory-3"])
def world(request: pytest.FixtureRequest) -> World:
    kind, _, seed = request.param.partition("-")
    if kind == "grpc":

        async def bounded(scenario: Callable[[], Awaitable[None]]) -> None:
            async with asyncio.timeout(30):
                await scenario()

        transport = GrpcTransport()
        return World(
            run=lambda scenario: asyncio.run(bounded(scenario)),
            server=transport,
            client=transport,
            at=Endpoint("127.0.0.1", 0),
            client_address="127.0.0.1",
        )
    network = MemoryNetwork(Random(int(seed)))
    return World(
        run=lambda scenario: simulate(scenario, seed=int(seed)),
        server=MemoryTransport(network, "10.0.0.1"),
        client=MemoryTransport(network, "10.0.0.2"),
        at=Endpoint("10.0.0.1", 0),
        client_address="10.0.0.2",
    )


def unary(answer: Callable[[bytes], Awaitable[bytes]], which: Bytes = UNARY) -> Services:
    async def handle(request: BytesValue, _peer: Peer) -> BytesValue:
        return BytesValue(value=await answer(request.value))

    services = Services()
    services.unary(which, handle)
    return services


def stream(which: Bytes, handler: Callable[[Stream], Awaitable[None]]) -> Services:
    services = Services()
    services.stream(which, handler)
    return services


async def upper(text: bytes) -> bytes:
    return text.upper()


async def ask(channel: Channel, text: bytes, **options: Any) -> bytes:
    return (await channel.call(UNARY, BytesValue(value=text), **options)).value


# Unary calls


def test_a_unary_call_carries_request_response_and_who_asks(world: World) -> None:
    peers: list[Peer] = []

    async def handle(request: BytesValue, peer: Peer) -> BytesValue:
        peers.append(peer)
        return BytesValue(value=request.value.upper())

    async def scenario() -> None:
        services = Services()
        services.unary(UNARY, handle)
        async with world.connect(services) as (_, channel):
            assert await ask(channel, b"hello") == b"HELLO"
        async with world.connect(services, client=None) as (_, channel):
            assert await ask(channel, b"") == b""

    world.run(scenario)
    assert [peer.kind for peer in peers] == [PeerKind.EPHEMERAL, PeerKind.ANONYMOUS]
    assert peers[0].certificate == CLIENT.certificate
    assert peers[0].address == world.client_address


def test_a_call_on_a_channel_that_its_owner_has_closed_was_not_sent(world: World) -> None:
    async def scenario() -> None:
        async with world.connect(unary(upper)) as (_, channel):
            assert await ask(channel, b"hello") == b"HELLO"
            await channel.close()
            with pytest.raises(NotReachedError, match="was closed"):
                await ask(channel, b"hello")

    world.run(scenario)


def test_many_calls_share_a_channel_and_each_gets_its_own_answer(world: World) -> None:
    async def scenario() -> None:
        async with world.connect(unary(upper)) as (_, channel), asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(ask(channel, b"n%d" % number)) for number in range(50)]
            answers = [await call for call in calls]
        assert answers == [b"N%d" % number for number in range(50)]

    world.run(scenario)


def test_an_operating_error_crosses_with_class_text_and_remedy(world: World) -> None:
    async def refuse(_text: bytes) -> bytes:
        raise InvalidArgumentError("the 100% ümlaut\nis wrong", remedy="Write ue.")

    async def scenario() -> None:
        async with world.connect(unary(refuse)) as (_, channel):
            with pytest.raises(InvalidArgumentError) as caught:
                await ask(channel, b"x")
            assert str(caught.value) == "the 100% ümlaut\nis wrong"
            assert caught.value.remedy == "Write ue."

    world.run(scenario)


def test_a_server_that_does_not_lead_names_the_leader(world: World) -> None:
    async def refuse(_text: bytes) -> bytes:
        raise NotLeaderError(leader_id="metropolis-1", leader_host="10.0.0.9")

    async def scenario() -> None:
        async with world.connect(unary(refuse)) as (_, channel):
            with pytest.raises(NotLeaderError) as caught:
                await ask(channel, b"x")
            assert (caught.value.leader_id, caught.value.leader_host) == (
                "metropolis-1",
                "10.0.0.9",
            )

    world.run(scenario)


def test_a_bug_of_the_server_is_an_internal_error_without_its_text(world: World) -> None:
    async def fail(_text: bytes) -> bytes:
        raise AssertionError("a secret 4711")

    async def scenario() -> None:
        async with world.connect(unary(fail)) as (_, channel):
            with pytest.raises(InternalError) as caught:
                await ask(channel, b"x")
            assert "4711" not in str(caught.value) + caught.value.remedy

    world.run(scenario)


def test_a_method_that_is_not_served_is_unimplemented(world: World) -> None:
    async def scenario() -> None:
        async with world.connect(unary(upper, OTHER)) as (_, channel):
            with pytest.raises(UnimplementedError, match=r"/test\.Contract/Unary"):
                await ask(channel, b"x")

    world.run(scenario)


def test_a_caller_who_is_refused_never_reaches_the_handler(world: World) -> None:
    asked: list[bytes] = []

    async def remember(text: bytes) -> bytes:
        asked.append(text)
        return text

    async def scenario() -> None:
        async with world.connect(unary(remember), gate=Gate(UNARY.path)) as (_, channel):
            with pytest.raises(PermissionDeniedError, match="not you") as caught:
                await ask(channel, b"x")
            assert caught.value.remedy == "Ask somebody else."

    world.run(scenario)
    assert asked == []


def test_a_server_that_the_client_refuses_sees_no_call(world: World) -> None:
    seen: list[bytes] = []
    asked: list[bytes] = []

    def refuse(certificate: bytes) -> None:
        seen.append(certificate)
        raise UnauthenticatedError("another cluster", remedy="Check the address.")

    async def remember(text: bytes) -> bytes:
        asked.append(text)
        return text

    async def scenario() -> None:
        async with world.connect(unary(remember), verify=refuse) as (_, channel):
            with pytest.raises(UnauthenticatedError, match="another cluster") as caught:
                await ask(channel, b"x")
            assert caught.value.remedy == "Check the address."

    world.run(scenario)
    assert seen == [SERVER.certificate]
    assert asked == []


def test_a_certificate_of_an_unknown_issuer_gets_no_answer_and_a_known_one_does(
    world: World,
) -> None:
    entropy = SimEntropy(7)
    ours, theirs = (issue_cluster_ca(generate_key(entropy), serial=number) for number in (1, 2))
    asked: list[bytes] = []

    async def remember(text: bytes) -> bytes:
        asked.append(text)
        return text

    def member_of(authority: Authority) -> Credentials:
        key = generate_key(entropy)
        certificate = issue_node(authority, raw_public_key(key), serial=3)
        return Credentials(certificate=certificate, key=key)

    async def scenario() -> None:
        gate = Gate()
        services = unary(remember)
        async with world.connect(services, gate=gate, client=member_of(ours)) as (_, channel):
            with pytest.raises(UnavailableError):
                await ask(channel, b"nobody is known")
        gate.ca_certificate = ours.certificate
        async with world.connect(services, gate=gate, client=member_of(theirs)) as (_, channel):
            with pytest.raises(UnavailableError):
                await ask(channel, b"theirs")
        async with world.connect(services, gate=gate, client=member_of(ours)) as (_, channel):
            assert await ask(channel, b"ours") == b"ours"

    world.run(scenario)
    assert asked == [b"ours"]


@pytest.mark.parametrize("size", [4 * MIB - 16, 4 * MIB])
def test_a_message_over_the_cap_is_refused_and_the_channel_lives_on(
    world: World, size: int
) -> None:
    async def grow(text: bytes) -> bytes:
        return bytes(int(text)) if text.isdigit() else b"%d" % len(text)

    async def scenario() -> None:
        fits = size < 4 * MIB - 8
        async with world.connect(unary(grow)) as (_, channel):
            if fits:
                assert await ask(channel, b"x" * size) == b"%d" % size
                assert len(await ask(channel, b"%d" % size)) == size
            else:
                with pytest.raises(ResourceExhaustedError, match="larger than the limit"):
                    await ask(channel, b"x" * size)
                with pytest.raises(ResourceExhaustedError, match="larger than the limit"):
                    await ask(channel, b"%d" % size)
            assert await ask(channel, b"still there") == b"11"

    world.run(scenario)


# Time and absence


def test_a_deadline_ends_the_call_on_both_sides(world: World) -> None:
    async def scenario() -> None:
        cancelled = asyncio.Event()

        async def dawdle(text: bytes) -> bytes:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            return text

        async with world.connect(unary(dawdle)) as (_, channel):
            with pytest.raises(DeadlineExceededError, match="Unary"):
                await ask(channel, b"x", timeout_s=0.3)
            await cancelled.wait()

    world.run(scenario)


def test_a_handler_is_cancelled_when_its_caller_goes(world: World) -> None:
    async def scenario() -> None:
        started, cancelled = asyncio.Event(), asyncio.Event()

        async def dawdle(text: bytes) -> bytes:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            return text

        async with world.connect(unary(dawdle)) as (_, channel):
            async with asyncio.TaskGroup() as tasks:
                call = tasks.create_task(ask(channel, b"x", timeout_s=1000))
                await started.wait()
                call.cancel()
            await cancelled.wait()

    world.run(scenario)


def test_where_nobody_listens_nobody_is_reached(world: World) -> None:
    async def scenario() -> None:
        async with world.connect(unary(upper)) as (server, _):
            nobody = server.endpoint
        channel = world.client.dial(nobody, credentials=CLIENT, verify=accept_any)
        with pytest.raises(NotReachedError) as caught:
            await ask(channel, b"x")
        assert str(nobody) in str(caught.value)
        assert caught.value.remedy
        await channel.close()

    world.run(scenario)


def test_an_endpoint_that_is_taken_cannot_be_served_twice(world: World) -> None:
    async def scenario() -> None:
        async with world.connect(unary(upper)) as (server, _):
            with pytest.raises(UnavailableError, match="cannot listen on"):
                async with world.server.serve(
                    server.endpoint,
                    credentials=SERVER,
                    services=unary(upper),
                    authenticator=Gate(),
                ):
                    pass

    world.run(scenario)


def test_a_server_that_stops_breaks_its_calls_and_a_new_one_is_found_again(world: World) -> None:
    async def scenario() -> None:
        started = asyncio.Event()

        async def dawdle(text: bytes) -> bytes:
            started.set()
            await asyncio.Event().wait()
            return text

        async def broken_call(channel: Channel) -> None:
            with pytest.raises(UnavailableError):
                await ask(channel, b"x", timeout_s=1000)

        serving = world.server.serve(
            world.at, credentials=SERVER, services=unary(dawdle), authenticator=Gate()
        )
        async with asyncio.TaskGroup() as tasks, serving as server:
            endpoint = server.endpoint
            channel = world.client.dial(endpoint, credentials=CLIENT, verify=accept_any)
            tasks.create_task(broken_call(channel))
            await started.wait()
        with pytest.raises(UnavailableError):
            await ask(channel, b"x")
        async with world.server.serve(
            endpoint, credentials=SERVER, services=unary(upper), authenticator=Gate()
        ):
            assert await ask(channel, b"again") == b"AGAIN"
            await channel.close()

    world.run(scenario)


def test_unwanted_peers_are_disconnected_and_others_are_not(world: World) -> None:
    async def scenario() -> None:
        async def endless(stream: Stream) -> None:
            await stream.send(BytesValue(value=b"first"))
            await asyncio.Event().wait()

        services = stream(DOWN, endless)
        services.include(unary(upper))
        async with world.connect(services) as (server, wanted):
            other = credentials(3)
            unwanted = world.client.dial(server.endpoint, credentials=other, verify=accept_any)
            assert await ask(wanted, b"a") == b"A"
            async with unwanted.open(DOWN) as call:
                await call.send(BytesValue())
                assert await call.receive() == BytesValue(value=b"first")
                assert server.disconnect(lambda peer: peer.certificate == other.certificate) == 1
                with pytest.raises(UnavailableError):
                    await call.receive()
            assert server.disconnect(lambda peer: peer.certificate == b"nobody's") == 0
            assert await ask(wanted, b"b") == b"B"
            await unwanted.close()

    world.run(scenario)


# Streams


def test_a_server_stream_arrives_in_order_and_ends(world: World) -> None:
    async def count(stream: Stream) -> None:
        request = await stream.receive()
        assert request is not None
        for number in range(int(request.value)):
            await stream.send(BytesValue(value=b"%d" % number))
        assert await stream.receive() is None

    async def scenario() -> None:
        async with (
            world.connect(stream(DOWN, count)) as (_, channel),
            channel.open(DOWN) as call,
        ):
            await call.send(BytesValue(value=b"100"))
            received = []
            while (message := await call.receive()) is not None:
                received.append(int(message.value))
            assert received == list(range(100))
            assert await call.receive() is None

    world.run(scenario)


def test_what_is_sent_to_many_is_encoded_once_and_may_not_be_too_large(world: World) -> None:
    news = Packed(BytesValue(value=b"news"))

    async def tell(stream: Stream) -> None:
        await stream.receive()
        for _ in range(2):
            await stream.send_packed(news)
        await stream.send(BytesValue(value=b"only you"))
        await stream.send_packed(Packed(BytesValue(value=bytes(5 * MIB))))

    async def scenario() -> None:
        async with world.connect(stream(DOWN, tell)) as (_, channel):
            for _ in range(2):
                async with channel.open(DOWN) as call:
                    await call.send(BytesValue())
                    for expected in (b"news", b"news", b"only you"):
                        answer = await call.receive()
                        assert answer is not None
                        assert answer.value == expected
                    with pytest.raises(ResourceExhaustedError, match="larger than the limit"):
                        await call.receive()

    before = news.data
    world.run(scenario)
    assert news.data is before


def test_what_was_sent_before_an_error_arrives_before_it(world: World) -> None:
    async def fail_late(stream: Stream) -> None:
        await stream.send(BytesValue(value=b"one"))
        raise InvalidArgumentError("no two")

    async def scenario() -> None:
        async with (
            world.connect(stream(DOWN, fail_late)) as (_, channel),
            channel.open(DOWN) as call,
        ):
            await call.send(BytesValue())
            assert await call.receive() == BytesValue(value=b"one")
            for _ in range(2):
                with pytest.raises(InvalidArgumentError, match="no two"):
                    await call.receive()

    world.run(scenario)


def test_an_upload_is_answered_once_after_its_end(world: World) -> None:
    async def total(stream: Stream) -> None:
        size = 0
        while (message := await stream.receive()) is not None:
            size += len(message.value)
        await stream.send(BytesValue(value=b"%d" % size))

    async def scenario() -> None:
        async with world.connect(stream(UP, total)) as (_, channel), channel.open(UP) as call:
            for _ in range(20):
                await call.send(BytesValue(value=b"x" * 100_000))
            await call.end()
            assert await call.receive() == BytesValue(value=b"2000000")
            assert await call.receive() is None

    world.run(scenario)


def test_both_sides_talk_at_the_same_time(world: World) -> None:
    async def echo(stream: Stream) -> None:
        while (message := await stream.receive()) is not None:
            await stream.send(BytesValue(value=message.value.upper()))

    async def scenario() -> None:
        async with world.connect(stream(BOTH, echo)) as (_, channel), channel.open(BOTH) as call:
            for text in (b"a", b"b", b"c"):
                await call.send(BytesValue(value=text))
                assert await call.receive() == BytesValue(value=text.upper())
            await call.end()
            assert await call.receive() is None

    world.run(scenario)


def test_leaving_a_stream_cancels_its_handler(world: World) -> None:
    async def scenario() -> None:
        cancelled = asyncio.Event()

        async def endless(stream: Stream) -> None:
            try:
                while True:
                    await stream.send(BytesValue(value=b"again"))
            finally:
                cancelled.set()

        async with world.connect(stream(DOWN, endless)) as (_, channel):
            async with channel.open(DOWN) as call:
                await call.send(BytesValue())
                assert await call.receive() is not None
            await cancelled.wait()

    world.run(scenario)


def test_a_deadline_ends_a_stream(world: World) -> None:
    async def scenario() -> None:
        cancelled = asyncio.Event()

        async def endless(stream: Stream) -> None:
            try:
                await stream.send(BytesValue(value=b"first"))
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        async with world.connect(stream(DOWN, endless)) as (_, channel):
            async with channel.open(DOWN, timeout_s=0.5) as call:
                await call.send(BytesValue())
                assert await call.receive() is not None
                with pytest.raises(DeadlineExceededError):
                    await call.receive()
            await cancelled.wait()

    world.run(scenario)


def test_a_cancelled_receive_loses_nothing(world: World) -> None:
    async def echo(stream: Stream) -> None:
        while (message := await stream.receive()) is not None:
            await stream.send(message)

    async def scenario() -> None:
        async with world.connect(stream(BOTH, echo)) as (_, channel), channel.open(BOTH) as call:
            for number in range(20):
                async with asyncio.TaskGroup() as tasks:
                    impatient = tasks.create_task(call.receive())
                    await asyncio.sleep(0)
                    impatient.cancel()
                await call.send(BytesValue(value=b"%d" % number))
                assert await call.receive() == BytesValue(value=b"%d" % number)

    world.run(scenario)


def test_a_slow_reader_holds_the_sender_back(world: World) -> None:
    count, size = 100, 256 << 10
    sent: list[int] = []

    async def scenario() -> None:
        async def flood(stream: Stream) -> None:
            for number in range(count):
                await stream.send(BytesValue(value=bytes(size)))
                sent.append(number)

        async with (
            world.connect(stream(DOWN, flood)) as (_, channel),
            channel.open(DOWN) as call,
        ):
            await call.send(BytesValue())
            before = -1
            while len(sent) > before or before == 0:
                before = len(sent)
                await asyncio.sleep(0.1)
            assert len(sent) < count / 2
            received = 0
            while await call.receive() is not None:
                received += 1
            assert received == count

    world.run(scenario)
