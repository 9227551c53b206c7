# SPDX-License-Identifier: Apache-2.0
"""A channel towards servers that vanish, fall silent or are something else. Real sockets."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import BytesValue
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, StreamEnded

from contract.rpc import kit
from contract.rpc.kit import ask, serving
from metropolis.base.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
    UnimplementedError,
    UnknownError,
)
from metropolis.rpc.channel import Channel, Services
from metropolis.rpc.grpc import GrpcTransport, dial_unix
from metropolis.rpc.status import NotReachedError
from metropolis.rpc.transport import Endpoint

pytestmark = pytest.mark.parametrize("loop", kit.LOOPS)

MIB = 1 << 20
OK = [(":status", "200"), ("content-type", "application/grpc")]


# A network in between


class Relay:
    """Forwards TCP connections to a server until it is told to do something else."""

    def __init__(self, target: Endpoint) -> None:
        self.target = target
        self.is_silent = False  # takes bytes and forwards none
        self.accepted = 0
        self._writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Endpoint]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
        finally:
            server.close()
            self.cut()
            await asyncio.sleep(0.05)  # until what was cut has ended

    def cut(self) -> None:
        writers, self._writers = self._writers, []
        for writer in writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        onward = await asyncio.open_connection(self.target.host, self.target.tcp_port)
        self._writers += [writer, onward[1]]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pump(reader, onward[1]))
            tasks.create_task(self._pump(onward[0], writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                if not self.is_silent:
                    writer.write(data)
        except ConnectionError:
            pass
        writer.close()


def impatient() -> GrpcTransport:
    return GrpcTransport(keepalive_idle_s=0.2, keepalive_timeout_s=0.1, connect_s=0.5)


@asynccontextmanager
async def through_relay(here: kit.Kit) -> AsyncIterator[tuple[Relay, Channel]]:
    relay = Relay(here.server.endpoint)
    async with relay.running() as endpoint:
        channel = impatient().dial(endpoint, credentials=kit.NODE, verify=kit.OF_THIS_CLUSTER)
        try:
            yield relay, channel
        finally:
            await channel.close()


def test_a_silent_network_fails_open_streams_after_the_keepalive(loop: str) -> None:
    async def scenario() -> None:
        now_s = asyncio.get_running_loop().time
        async with serving() as here, through_relay(here) as (relay, channel):
            async with channel.open(kit.DOWN) as stream:
                await stream.send(BytesValue(value=b"x"))
                assert await stream.receive() is not None
                await asyncio.sleep(1)  # quiet, and yet alive: the pings are answered
                relay.is_silent = True
                begun_s = now_s()
                with pytest.raises(UnavailableError, match="silent"):
                    await stream.receive()
                assert now_s() - begun_s < 1
            relay.is_silent = False
            assert await ask(channel, b"again") == b"again"
            assert relay.accepted == 2

    kit.run(scenario, loop)


def test_a_server_that_never_finishes_the_handshake_is_given_up(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here, through_relay(here) as (relay, channel):
            relay.is_silent = True
            with pytest.raises(NotReachedError, match="did not answer within") as caught:
                await ask(channel)
            assert caught.value.remedy
            relay.is_silent = False
            assert await ask(channel, b"again") == b"again"

    kit.run(scenario, loop)


def test_a_cut_connection_fails_its_calls_and_the_next_call_reconnects(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here, through_relay(here) as (relay, channel):
            async with channel.open(kit.DOWN) as stream:
                await stream.send(BytesValue(value=b"x"))
                assert await stream.receive() is not None
                relay.cut()
                with pytest.raises(UnavailableError) as caught:
                    await stream.receive()
                assert caught.value.remedy
                assert not isinstance(caught.value, NotReachedError)  # it was executed
            assert await ask(channel, b"again") == b"again"

    kit.run(scenario, loop)


def test_nobody_there_is_not_reached_and_says_where_and_what_to_do(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here:
            endpoint = here.server.endpoint
        channel = GrpcTransport().dial(endpoint, credentials=None, verify=kit.OF_THIS_CLUSTER)
        with pytest.raises(NotReachedError, match=f"cannot reach {endpoint}: .*refused") as caught:
            await ask(channel)
        assert caught.value.remedy
        await channel.close()

    kit.run(scenario, loop)


def test_many_callers_share_one_attempt_to_connect(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here, through_relay(here) as (relay, channel):
            async with asyncio.TaskGroup() as tasks:
                for _ in range(20):
                    tasks.create_task(ask(channel))
            assert relay.accepted == 1

    kit.run(scenario, loop)


def test_an_attempt_to_connect_can_be_given_up_and_tried_anew(loop: str) -> None:
    async def scenario() -> None:
        accepted = asyncio.Event()

        async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.set()
            await held.wait()
            writer.transport.abort()

        held = asyncio.Event()
        silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        endpoint = Endpoint("127.0.0.1", silent.sockets[0].getsockname()[1])
        channel = GrpcTransport().dial(endpoint, credentials=None, verify=kit.OF_THIS_CLUSTER)
        for _ in range(2):
            accepted.clear()
            answer = asyncio.ensure_future(ask(channel))
            await accepted.wait()
            channel.give_up_connecting()
            with pytest.raises(NotReachedError, match="was given up"):
                await answer
        held.set()
        await channel.close()
        silent.close()
        await asyncio.sleep(0.05)  # until what was cut has ended

    kit.run(scenario, loop)


def test_a_caller_that_leaves_while_connecting_spoils_nothing(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here, through_relay(here) as (_, channel):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await ask(channel)
            assert await ask(channel) == b"x"

    kit.run(scenario, loop)


def test_an_attempt_that_fails_after_its_callers_left_is_no_lost_error(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here, through_relay(here) as (relay, channel):
            relay.is_silent = True
            with pytest.raises(NotReachedError):
                await ask(channel, timeout_s=0.1)
            await asyncio.sleep(0.6)  # the attempt itself ends after 0.5 s

    kit.run(scenario, loop)


def test_closing_a_channel_that_is_connecting_or_busy_leaves_nothing(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here, through_relay(here) as (relay, channel):
            async with asyncio.TaskGroup() as tasks:
                busy = here.dial()
                tasks.create_task(expect_failure(busy))
                await here.echo.begun.wait()
                await busy.close()
            relay.is_silent = True
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(expect_failure(channel))
                await asyncio.sleep(0.1)
                await channel.close()

    async def expect_failure(channel: Channel) -> None:
        with pytest.raises(UnavailableError):
            await receive_all(channel)

    kit.run(scenario, loop)


async def receive_all(channel: Channel, timeout_s: float | None = None) -> None:
    async with channel.open(kit.DOWN, timeout_s=timeout_s) as stream:
        await stream.send(BytesValue())
        while await stream.receive() is not None:
            pass


# Time


def test_a_deadline_is_told_as_such_and_ends_the_handler(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here, here.dialled() as channel:
            with pytest.raises(DeadlineExceededError, match=r"within 0\.2 s") as caught:
                await receive_all(channel, timeout_s=0.2)
            assert caught.value.remedy
            await here.echo.cancelled.wait()

    kit.run(scenario, loop)


def test_a_cancelled_receive_loses_nothing(loop: str) -> None:
    release = asyncio.Event()

    async def halting(stream: Any) -> None:
        await stream.receive()
        for number in range(3):
            await release.wait()
            release.clear()
            await stream.send(BytesValue(value=bytes([number]) * 100_000))

    services = Services()
    services.stream(kit.DOWN, halting)

    async def scenario() -> None:
        async with (
            serving(services=services) as here,
            here.dialled() as channel,
            channel.open(kit.DOWN) as stream,
        ):
            await stream.send(BytesValue())
            for number in range(3):
                received = None
                release.set()
                while received is None:
                    try:
                        async with asyncio.timeout(0.0001):
                            received = await stream.receive()
                    except TimeoutError:
                        pass
                assert received.value == bytes([number]) * 100_000
            assert await stream.receive() is None
            assert await stream.receive() is None

    kit.run(scenario, loop)


# Servers that are something else

Answer = Callable[[H2Connection, int], None]


@asynccontextmanager
async def plain_server(path: Path, answer: Answer) -> AsyncIterator[str]:
    """A hand-made HTTP/2 server on a unix socket that calls `answer` after each request."""
    connections: list[asyncio.StreamWriter] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        h2 = H2Connection(H2Configuration(client_side=False, validate_outbound_headers=False))
        h2.initiate_connection()
        try:
            while True:
                writer.write(h2.data_to_send())
                await writer.drain()
                data = await reader.read(1 << 16)
                if not data:
                    break
                for event in h2.receive_data(data):
                    _acknowledge(h2, event)
                    if isinstance(event, StreamEnded):
                        answer(h2, event.stream_id)
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_unix_server(converse, path)
    try:
        yield str(path)
    finally:
        server.close()
        for writer in connections:
            writer.transport.abort()
        await asyncio.sleep(0.05)


def _acknowledge(h2: H2Connection, event: Event) -> None:
    if isinstance(event, DataReceived):
        h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
    assert not isinstance(event, RequestReceived) or dict(event.headers)[b"te"] == b"trailers"


def only(*headers: tuple[str, str]) -> Answer:
    return lambda h2, stream: h2.send_headers(stream, list(headers), end_stream=True)


def data_then(data: bytes, *trailers: tuple[str, str]) -> Answer:
    def answer(h2: H2Connection, stream: int) -> None:
        h2.send_headers(stream, OK)
        h2.send_data(stream, data, end_stream=not trailers)
        if trailers:
            h2.send_headers(stream, list(trailers), end_stream=True)

    return answer


def goodbye(h2: H2Connection, _stream: int) -> None:
    h2.close_connection(last_stream_id=0)


ONE = struct.pack(">BI", 0, 3) + b"\x0a\x01x"


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (only((":status", "503")), UnavailableError, "HTTP status 503"),
        (only((":status", "404")), UnimplementedError, "HTTP status 404"),
        (only((":status", "200"), ("content-type", "text/html")), UnknownError, "not gRPC"),
        (only(*OK), UnknownError, "without a status"),
        (only(*OK, ("grpc-status", "0")), InternalError, "without a response"),
        (
            only(*OK, ("grpc-status", "3"), ("grpc-message", "b%C3%B6se")),
            InvalidArgumentError,
            "böse",
        ),
        (data_then(ONE), UnknownError, "without a status"),
        (data_then(ONE, ("grpc-status", "14")), UnavailableError, "gRPC status 14"),
        (data_then(ONE + ONE, ("grpc-status", "0")), InternalError, "several responses"),
        (data_then(ONE[:-1], ("grpc-status", "0")), InternalError, "unreadable"),
        (data_then(b"\0\0\0\0\1\xff", ("grpc-status", "0")), InternalError, "unreadable"),
        (data_then(b"\1" + ONE[1:], ("grpc-status", "0")), UnimplementedError, "compressed"),
        (
            data_then(struct.pack(">BI", 0, 200 * MIB)),
            ResourceExhaustedError,
            "209715200 bytes is larger than the limit of 67108864",
        ),
        (goodbye, NotReachedError, "said goodbye"),
        (lambda h2, stream: h2.reset_stream(stream, 7), NotReachedError, "reset"),
        (lambda h2, stream: h2.reset_stream(stream, 2), UnavailableError, "reset"),
    ],
)
def test_a_foreign_answer_becomes_a_clear_error(
    loop: str, tmp_path: Path, answer: Answer, kind: type[Exception], words: str
) -> None:
    async def scenario() -> None:
        async with plain_server(tmp_path / "s", answer) as path:
            channel = dial_unix(path)
            with pytest.raises(kind, match=words) as caught:
                await ask(channel)
            assert type(caught.value) is kind
            await channel.close()

    kit.run(scenario, loop)


def test_a_unix_socket_carries_calls_without_tls(loop: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        answer = data_then(ONE, ("grpc-status", "0"))
        async with plain_server(tmp_path / "s", answer) as path:
            channel = dial_unix(path)
            assert await ask(channel) == b"x"
            assert await ask(channel, metadata={"hasleader": "true"}) == b"x"
            await channel.close()
        channel = dial_unix(str(tmp_path / "nobody"))
        with pytest.raises(NotReachedError, match="cannot reach unix:"):
            await ask(channel)
        await channel.close()

    kit.run(scenario, loop)


def test_a_path_that_no_unix_socket_can_have_is_a_bug(loop: str) -> None:
    async def scenario() -> None:
        dial_unix("x" * 107)
        with pytest.raises(AssertionError):
            dial_unix("x" * 108)

    kit.run(scenario, loop)


# SOCKS5


@asynccontextmanager
async def socks_proxy(dialled: list[Endpoint], *, refuses: bool = False) -> AsyncIterator[str]:
    """A proxy without authentication that knows nothing but CONNECT to IPv4 addresses."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        version, methods = await reader.readexactly(2)
        assert version == 5
        await reader.readexactly(methods)
        writer.write(b"\5\0")
        assert await reader.readexactly(4) == b"\5\1\0\1"
        host = ".".join(str(byte) for byte in await reader.readexactly(4))
        endpoint = Endpoint(host, int.from_bytes(await reader.readexactly(2), "big"))
        dialled.append(endpoint)
        writer.write(b"\5" + (b"\5" if refuses else b"\0") + b"\0\1" + bytes(6))
        if refuses:
            writer.close()
            return
        onward = await asyncio.open_connection(endpoint.host, endpoint.tcp_port)
        relay = Relay(endpoint)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(relay._pump(reader, onward[1]))
            tasks.create_task(relay._pump(onward[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.sleep(0.05)


def test_a_proxy_is_dialled_through_when_there_is_one(loop: str) -> None:
    async def scenario() -> None:
        dialled: list[Endpoint] = []
        async with serving() as here, socks_proxy(dialled) as proxy:
            channel = GrpcTransport(proxy=proxy).dial(
                here.server.endpoint, credentials=kit.NODE, verify=kit.OF_THIS_CLUSTER
            )
            assert await ask(channel, b"through", kit.MEMBERS_ONLY) == b"through"
            assert dialled == [here.server.endpoint]
            await channel.close()

    kit.run(scenario, loop)


def test_a_proxy_that_refuses_or_is_absent_is_named(loop: str) -> None:
    async def refused(proxy: str, words: str) -> None:
        channel = GrpcTransport(proxy=proxy).dial(
            Endpoint("10.1.2.3", 7835), credentials=None, verify=kit.OF_THIS_CLUSTER
        )
        with pytest.raises(NotReachedError, match=rf"10\.1\.2\.3:7835: the proxy {proxy} {words}"):
            await ask(channel)
        await channel.close()

    async def scenario() -> None:
        async with socks_proxy([], refuses=True) as proxy:
            await refused(proxy, "refused")
        await refused(proxy, "is not reachable")

    kit.run(scenario, loop)
