# SPDX-License-Identifier: Apache-2.0
"""Connections that ended are gone at once, without the garbage collector.

It would have to look at everything there is, and stop a leader of 10,000 nodes for a second or two:
as long as its lease lives. See `metropolis.host.linux.collector`.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import pytest
from google.protobuf.wrappers_pb2 import BytesValue
from OpenSSL import SSL

from contract.rpc import kit
from contract.rpc.kit import BOTH, DOWN, STRANGE_NODE, Kit, ask, serving
from metropolis.base.errors import DeadlineExceededError, MetropolisError, NotFoundError
from metropolis.rpc.channel import Services
from metropolis.rpc.grpc.answer import ServerCall
from metropolis.rpc.grpc.h2_connection import LightConnection
from metropolis.rpc.grpc.inbox import Inbox, StreamFailure
from metropolis.rpc.grpc.stream import WireStream
from metropolis.rpc.grpc.wire import Dispatcher, Wire, WireConnection
from metropolis.rpc.limits import Limits
from metropolis.rpc.peer import Peer
from metropolis.rpc.tls import TlsConnection

KINDS: Final = (
    Wire,
    WireConnection,
    Dispatcher,
    WireStream,
    StreamFailure,
    Inbox,
    LightConnection,
    TlsConnection,
    SSL.Connection,
    ServerCall,
)


async def use_everything(here: Kit) -> None:
    async with here.dialled() as channel, channel.open(BOTH) as both, channel.open(DOWN) as down:
        await ask(channel)
        for _ in range(2):
            await both.send(BytesValue(value=b"x"))
            await both.receive()
        await down.send(BytesValue(value=b"x"))
        await down.receive()


async def be_cut_by_the_client(here: Kit) -> None:
    channel = here.dial()
    async with channel.open(BOTH) as both, channel.open(DOWN) as down:
        await both.send(BytesValue(value=b"x"))
        await both.receive()
        await down.send(BytesValue(value=b"x"))
        await down.receive()
        await channel.close()
        for stream in (both, down):
            with pytest.raises(MetropolisError):
                await stream.receive()


async def be_cut_by_the_server(here: Kit) -> None:
    async with here.dialled() as channel, channel.open(BOTH) as both:
        await both.send(BytesValue(value=b"x"))
        await both.receive()
        assert here.server.disconnect(lambda _peer: True) == 1
        with pytest.raises(MetropolisError):
            await both.receive()


async def run_out_of_time(here: Kit) -> None:
    async with here.dialled() as channel, channel.open(DOWN, timeout_s=0.05) as down:
        await down.send(BytesValue(value=b"x"))
        assert await down.receive() is not None
        with pytest.raises(DeadlineExceededError):
            await down.receive()


async def be_refused(here: Kit) -> None:
    async with here.dialled(STRANGE_NODE) as channel:
        with pytest.raises(MetropolisError):
            await ask(channel)


async def leave_during_the_handshake(here: Kit) -> None:
    async with here.raw() as peer:
        peer.writer.write(b"\x16\x03\x01")
    async with here.raw() as peer:
        with suppress(SSL.WantReadError):
            peer.tls.do_handshake()
        await peer.write(b"")
        await peer.reader.read(1)


async def speak_no_http(here: Kit) -> None:
    async with here.raw() as peer:
        await peer.handshake()
        await peer.write(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 100)
        await peer.wait_closed()


WAYS: Final[list[Callable[[Kit], Awaitable[None]]]] = [
    use_everything,
    be_cut_by_the_client,
    be_cut_by_the_server,
    run_out_of_time,
    be_refused,
    leave_during_the_handshake,
    speak_no_http,
]


def left_over() -> Counter[str]:
    return Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, KINDS))


def check(use: Callable[[Kit], Awaitable[None]], *, services: Services | None = None) -> None:
    async def scenario() -> None:
        gc.collect()
        assert not left_over()
        gc.disable()
        try:
            async with serving(services=services, limits=Limits(handshake_s=1.0)) as here:
                await use(here)
            for _ in range(3):  # callbacks of the very last moment
                await asyncio.sleep(0)
            assert not left_over()
        finally:
            gc.enable()

    kit.run(scenario)


@pytest.mark.parametrize("use", WAYS, ids=lambda use: use.__name__)
def test_a_connection_that_ended_is_gone_at_once(use: Callable[[Kit], Awaitable[None]]) -> None:
    check(use)


def test_so_is_a_call_that_failed() -> None:
    async def fail(_request: BytesValue, _peer: Peer) -> BytesValue:
        raise NotFoundError("no such thing", remedy="Look elsewhere.")

    async def use(here: Kit) -> None:
        async with here.dialled() as channel:
            with pytest.raises(NotFoundError):
                await ask(channel)

    services = Services()
    services.unary(kit.UNARY, fail)
    check(use, services=services)
