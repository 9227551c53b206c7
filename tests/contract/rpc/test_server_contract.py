# SPDX-License-Identifier: Apache-2.0
"""A server among hostile, clumsy and foreign clients. On real sockets, both loops."""

import asyncio
import logging
import re
import resource
import socket
from contextlib import AsyncExitStack
from itertools import count
from typing import Any

import h2.events
import h2.settings
import pytest
from google.protobuf.wrappers_pb2 import BytesValue
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.rpc import kit
from contract.rpc.kit import RawPeer, ask, framed, serving
from metropolis.base.errors import (
    InternalError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from metropolis.rpc.channel import Services
from metropolis.rpc.limits import Limits
from metropolis.rpc.peer import Peer

pytestmark = pytest.mark.parametrize("loop", kit.LOOPS)

MIB = 1 << 20
HELLO = framed(BytesValue(value=b"hello").SerializeToString())


async def outcome(peer: RawPeer) -> dict[str, str]:
    """Return the trailers of the next call that ends, or nothing if the connection does."""
    while True:
        event: Any = await peer.event(h2.events.ResponseReceived, h2.events.TrailersReceived)
        if event is None:
            return {}
        headers = dict(event.headers)
        if "grpc-status" in headers or headers.get(":status", "200") != "200":
            return headers


async def still_serves(here: kit.Kit) -> bool:
    async with here.dialled() as channel:
        return await ask(channel, b"still there") == b"still there"


# Requests that are not what they should be


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 3, "no request message"),
        (None, 3, "no request message"),
        (HELLO + HELLO, 3, "more than one"),
        (HELLO[:-1], 3, "in the middle of a message"),
        (HELLO[:3], 3, "in the middle of a message"),
        (framed(b"\xff\xff\xff"), 3, "not a valid google.protobuf.BytesValue"),
        (framed(b"x", flag=1), 12, "compressed"),
        (framed(b"", length=200 * MIB), 8, "209715200 bytes is larger than the limit of 4194304"),
        (framed(b"", length=2**32 - 1), 8, "larger than the limit"),
    ],
    ids=[
        "nothing",
        "headers only",
        "two",
        "cut",
        "cut prefix",
        "not protobuf",
        "gzip",
        "200 MB",
        "4 GB",
    ],
)
def test_a_malformed_request_gets_a_clear_status_and_harms_nobody(
    loop: str, body: bytes | None, status: int, words: str
) -> None:
    async def scenario() -> None:
        async with serving() as here, here.raw() as peer:
            await peer.begin_h2()
            await peer.request(body=body)
            trailers = await outcome(peer)
            assert trailers["grpc-status"] == str(status)
            assert words in trailers["grpc-message"]
            assert here.echo.peers == []
            await peer.request(body=HELLO)  # on the same connection
            assert (await outcome(peer))["grpc-status"] == "0"

    kit.run(scenario, loop)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/test.Kit/Nothing", "/test.Kit/Nothing is not a method of this service"),
        ("/test.Other/Unary", "does not offer the service"),
        ("", "does not offer the service"),
    ],
)
def test_an_unknown_method_is_unimplemented_and_says_why(loop: str, path: str, words: str) -> None:
    async def scenario() -> None:
        async with serving() as here, here.raw() as peer:
            await peer.begin_h2()
            await peer.request(path, HELLO)
            trailers = await outcome(peer)
            assert trailers["grpc-status"] == "12"
            assert words in trailers["grpc-message"]

    kit.run(scenario, loop)


def test_a_request_that_is_no_grpc_is_refused_as_http(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here, here.raw() as peer:
            await peer.begin_h2()
            peer.h2.send_headers(
                1,
                [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "x")],
                end_stream=True,
            )
            await peer.flush_h2()
            assert (await outcome(peer))[":status"] == "415"
            await peer.request(body=HELLO)
            assert (await outcome(peer))["grpc-status"] == "0"

    kit.run(scenario, loop)


@pytest.mark.parametrize("text", ["x", "1", "123456789S", "-1S", "1.5S", "", "1s"])
def test_a_malformed_timeout_is_an_invalid_argument(loop: str, text: str) -> None:
    async def scenario() -> None:
        async with serving() as here, here.raw() as peer:
            await peer.begin_h2()
            await peer.request(body=HELLO, headers=[("grpc-timeout", text)])
            assert (await outcome(peer))["grpc-status"] == "3"

    kit.run(scenario, loop)


def test_a_request_sent_together_with_the_end_of_the_handshake_is_answered(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here, here.raw() as peer:
            await peer.handshake(flushes=False)
            peer.h2.initiate_connection()
            await peer.request(body=HELLO)
            assert (await outcome(peer))["grpc-status"] == "0"

    kit.run(scenario, loop)


def test_a_request_that_arrives_byte_by_byte_is_answered(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here, here.raw() as peer:
            await peer.begin_h2()
            stream = await peer.request(body=b"", is_last=False)
            for byte in HELLO:
                peer.h2.send_data(stream, bytes([byte]))
                await peer.flush_h2()
            peer.h2.end_stream(stream)
            await peer.flush_h2()
            assert (await outcome(peer))["grpc-status"] == "0"

    kit.run(scenario, loop)


def test_a_request_that_never_ends_is_given_up(loop: str) -> None:
    async def scenario() -> None:
        async with serving(limits=Limits(request_s=0.2)) as here, here.raw() as peer:
            await peer.begin_h2()
            await peer.request(body=HELLO, is_last=False)
            assert (await outcome(peer))["grpc-status"] == "4"
            assert here.server.streams.held("identity " + NODE_ID) == 0

    kit.run(scenario, loop)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(noise=st.binary(min_size=1, max_size=400), is_h2=st.booleans())
def test_noise_instead_of_frames_ends_at_most_its_own_connection(
    loop: str, noise: bytes, is_h2: bool
) -> None:
    async def scenario() -> None:
        async with serving() as here:
            async with here.raw() as peer:
                if is_h2:
                    await peer.begin_h2()
                else:
                    await peer.handshake()
                await peer.write(noise)
            assert await still_serves(here)

    kit.run(scenario, loop)


# Floods


def test_a_reset_flood_ends_the_connection_that_makes_it(loop: str) -> None:
    async def scenario() -> None:
        async with serving(limits=Limits(resets=100)) as here:
            async with here.raw() as peer:
                await peer.begin_h2()
                for _ in range(150):
                    stream = await peer.request(body=HELLO, is_last=False)
                    peer.h2.reset_stream(stream)
                await peer.flush_h2()
                goodbye = await peer.event(h2.events.ConnectionTerminated)
                assert goodbye.error_code == 11  # ENHANCE_YOUR_CALM
                await peer.wait_closed()
            assert await still_serves(here)

    kit.run(scenario, loop)


def test_a_client_that_cancels_now_and_then_is_left_alone(loop: str) -> None:
    async def scenario() -> None:
        async with serving(limits=Limits(resets=10, window_s=0.2)) as here, here.raw() as peer:
            await peer.begin_h2()
            for _ in range(3):
                for _ in range(8):
                    stream = await peer.request(kit.DOWN.path, HELLO)
                    await peer.event(h2.events.DataReceived)
                    peer.h2.reset_stream(stream)
                await asyncio.sleep(0.25)  # another window
            await peer.request(body=HELLO)
            assert (await outcome(peer))["grpc-status"] == "0"

    kit.run(scenario, loop)


def test_a_ping_flood_ends_the_connection_and_pings_without_streams_do_not(loop: str) -> None:
    async def scenario() -> None:
        async with serving(limits=Limits(control_frames=50)) as here:
            async with here.raw() as peer:
                await peer.begin_h2()
                for _ in range(20):
                    peer.h2.ping(b"12345678")
                    await peer.flush_h2()
                    assert await peer.event(h2.events.PingAckReceived) is not None
                for _ in range(100):
                    peer.h2.ping(b"12345678")
                await peer.flush_h2()
                assert await peer.event(h2.events.ConnectionTerminated) is not None
            assert await still_serves(here)

    kit.run(scenario, loop)


def test_a_peer_that_asks_and_never_reads_the_answers_is_cut(loop: str) -> None:
    async def scenario() -> None:
        async with serving(limits=Limits(unsent_bytes=1 << 18)) as here:
            listener = here.server._listener
            assert listener is not None
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)  # of the accepted
            async with here.raw(buffer_bytes=1 << 12) as peer:
                await peer.begin_h2()
                with pytest.raises(ConnectionError):
                    await ask_for_ever(peer)
            assert await still_serves(here)

    kit.run(scenario, loop)


async def ask_for_ever(peer: RawPeer) -> None:
    for number in count():
        await peer.request(f"/x/{number:0190}", None)  # never the same: header compression
        peer.h2.streams.clear()  # it would count those for ever whose answers were not read
        await asyncio.sleep(0)  # the server's turn


def test_a_client_that_is_gone_without_a_word_is_cut(loop: str) -> None:
    async def scenario() -> None:
        async with (
            serving(limits=Limits(ping_idle_s=0.2, ping_timeout_s=0.1)) as here,
            here.dialled() as living,
            here.raw() as gone,
        ):
            await gone.begin_h2()
            await gone.request(kit.DOWN.path, HELLO)  # and answers nothing from here on
            await here.echo.begun.wait()
            await here.echo.cancelled.wait()
            assert await ask(living) == b"x"
            await asyncio.sleep(1)
            assert here.server.connections.held("identity " + NODE_ID) == 1

    kit.run(scenario, loop)


def test_200_megabytes_are_refused_without_taking_them_into_memory(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here, here.raw(kit.EPHEMERAL) as peer:
            await peer.begin_h2()
            await peer.request(body=HELLO)
            await outcome(peer)
            before_kib = peak_kib()
            stream = await peer.request(body=framed(b"", length=200 * MIB), is_last=False)
            sent = 0
            while sent < 200 * MIB:  # as far as it is let: a stranger has this patience
                window = min(
                    peer.h2.local_flow_control_window(stream), peer.h2.max_outbound_frame_size
                )
                if window <= 0:
                    break
                peer.h2.send_data(stream, bytes(window))
                sent += window
                await peer.flush_h2()
            trailers = await outcome(peer)
            assert trailers["grpc-status"] == "8"
            assert "limit of 4194304 bytes" in trailers["grpc-message"]
            assert sent <= 5 * MIB
            assert peak_kib() - before_kib < 16 * 1024

    kit.run(scenario, loop)


def test_one_byte_frames_that_nobody_reads_cost_no_more_than_their_bytes(loop: str) -> None:
    async def scenario() -> None:
        async with serving(limits=Limits(control_frames=10**9)) as here, here.raw() as peer:
            await peer.begin_h2()
            stream = await peer.request(kit.DOWN.path, HELLO, is_last=False)
            await asyncio.sleep(0.1)
            before_kib = peak_kib()
            for _ in range(40):
                for _ in range(1000):
                    peer.h2.send_data(stream, b"x")
                await peer.flush_h2()
            peer.h2.ping(b"12345678")
            await peer.flush_h2()
            await peer.event(h2.events.PingAckReceived)
            assert peak_kib() - before_kib < 4 * 1024

    kit.run(scenario, loop)


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# Caps


NODE_ID = re.search(rb"metropolis-[0-9a-f]{32}", kit.NODE.certificate)[0].decode()  # type: ignore[index]


async def is_let_in(peer: RawPeer) -> bool:
    await peer.begin_h2()
    await peer.request(body=HELLO)
    return (await outcome(peer)).get("grpc-status") == "0"


def test_strangers_are_capped_by_address_and_members_by_identity(loop: str) -> None:
    limits = Limits(connections_per_address=2, connections_per_identity=3)

    async def scenario() -> None:
        async with serving(limits=limits) as here:
            async with (
                here.raw(None) as a,
                here.raw(kit.EPHEMERAL) as b,
                here.raw(None) as c,
                here.raw(kit.NODE) as d,
                here.raw(kit.NODE) as e,
                here.raw(kit.NODE) as f,
                here.raw(kit.NODE) as g,
                here.raw(kit.OWNER) as h,
            ):
                assert await is_let_in(a)
                assert await is_let_in(b)
                assert not await is_let_in(c)  # strangers share what their address has
                for member in (d, e, f):
                    assert await is_let_in(member)
                assert not await is_let_in(g)  # this node has its three
                assert await is_let_in(h)
            for _ in range(100):
                if here.server.connections.held("address 127.0.0.1") == 0:
                    break
                await asyncio.sleep(0.01)
            async with here.raw(None) as again:
                assert await is_let_in(again)

    kit.run(scenario, loop)


def test_calls_that_are_open_at_once_are_capped_over_all_connections(loop: str) -> None:
    limits = Limits(streams_per_address=3, streams_per_identity=5)

    async def scenario() -> None:
        async with serving(limits=limits) as here, here.raw(None) as a, here.raw(None) as b:
            await a.begin_h2()
            await b.begin_h2()
            streams = [await a.request(kit.DOWN.path, HELLO) for _ in range(3)]
            for _ in streams:
                assert await a.event(h2.events.DataReceived) is not None
            await b.request(body=HELLO)
            trailers = await outcome(b)
            assert trailers["grpc-status"] == "8"
            assert "more than 3 calls" in trailers["grpc-message"]
            async with here.dialled(kit.NODE) as channel:
                assert await ask(channel) == b"x"
            a.h2.reset_stream(streams[0])
            await a.flush_h2()
            await here.echo.cancelled.wait()
            await b.request(body=HELLO)
            assert (await outcome(b))["grpc-status"] == "0"

    kit.run(scenario, loop)


def test_a_peer_learns_how_many_streams_one_connection_takes(loop: str) -> None:
    async def scenario() -> None:
        async with serving(limits=Limits(streams_per_connection=7)) as here, here.raw() as peer:
            await peer.begin_h2()
            event = await peer.event(h2.events.RemoteSettingsChanged)
            changed = event.changed_settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS]
            assert changed.new_value == 7
            async with here.dialled() as channel, asyncio.TaskGroup() as tasks:
                for _ in range(30):  # our own client waits its turn
                    tasks.create_task(ask(channel))

    kit.run(scenario, loop)


def test_simultaneous_handshakes_are_capped_by_address(loop: str) -> None:
    async def scenario() -> None:
        async with (
            serving(limits=Limits(handshakes_per_address=2, handshake_s=0.5)) as here,
            here.raw() as first,
            here.raw(),
            here.raw() as third,
        ):
            assert await third.reader.read(1) == b""  # cut at once
            while await first.reader.read(1):  # cut when its time was over
                pass
            assert await still_serves(here)

    kit.run(scenario, loop)


def test_a_thousand_idle_connections_are_held_and_served(loop: str) -> None:
    limits = Limits(connections_per_identity=1000, handshakes_per_address=1000)

    async def scenario() -> None:
        async with serving(limits=limits) as here:
            channels = [here.dial() for _ in range(1000)]
            for start in range(0, 1000, 50):
                async with asyncio.TaskGroup() as tasks:
                    for channel in channels[start : start + 50]:
                        tasks.create_task(ask(channel))
            assert here.server.connections.held("identity " + NODE_ID) == 1000
            assert await ask(channels[0], b"first") == b"first"
            assert await ask(channels[-1], b"last") == b"last"
            for channel in channels:
                await channel.close()

    if loop == "uvloop":  # what a node runs; asyncio's own TLS needs four times the memory
        kit.run(scenario, loop)


# Errors and endings


def test_a_bug_reaches_the_log_with_a_traceback_and_the_peer_with_a_number(
    loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_request: BytesValue, _peer: Peer) -> BytesValue:
        raise ValueError("secret 4711")

    services = Services()
    services.unary(kit.UNARY, fail)

    async def scenario() -> None:
        async with serving(services=services) as here, here.dialled() as channel:
            with (
                caplog.at_level(logging.ERROR, "metropolis.rpc"),
                pytest.raises(InternalError) as caught,
            ):
                await ask(channel)
            number = re.search(r"\(error (\d+) in its log\)", str(caught.value))
            assert number is not None
            assert "4711" not in str(caught.value)
            assert f"error {number[1]}" in caplog.text
            assert "ValueError: secret 4711" in caplog.text

    kit.run(scenario, loop)


def test_the_trailers_of_an_error_carry_code_and_remedy(loop: str) -> None:
    async def fail(_request: BytesValue, _peer: Peer) -> BytesValue:
        raise NotFoundError("kein Knoten namens „ü“", remedy="Nenne 100 % einen anderen.")

    services = Services()
    services.unary(kit.UNARY, fail)

    async def scenario() -> None:
        async with serving(services=services) as here, here.raw() as peer:
            await peer.begin_h2()
            await peer.request(body=HELLO)
            trailers = await outcome(peer)
            assert trailers["grpc-status"] == "5"
            assert trailers["metropolis-code"] == "not-found"
            assert trailers["grpc-message"] == (
                "kein Knoten namens %E2%80%9E%C3%BC%E2%80%9C. Nenne 100 %25 einen anderen."
            )
            assert trailers["metropolis-remedy"] == "Nenne 100 %25 einen anderen."

    kit.run(scenario, loop)


def test_a_handler_is_cancelled_when_its_caller_goes_or_its_deadline_passes(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here:
            async with here.raw() as peer:
                await peer.begin_h2()
                await peer.request(kit.DOWN.path, HELLO)
                await here.echo.begun.wait()
            await here.echo.cancelled.wait()
            here.echo.cancelled.clear()
            async with here.raw() as peer:
                await peer.begin_h2()
                await peer.request(kit.DOWN.path, HELLO, headers=[("grpc-timeout", "100m")])
                assert (await outcome(peer))["grpc-status"] == "4"
                assert here.echo.cancelled.is_set()

    kit.run(scenario, loop)


def test_a_time_out_of_the_handlers_own_is_not_taken_for_the_callers_deadline(loop: str) -> None:
    async def fail(_request: BytesValue, _peer: Peer) -> BytesValue:
        raise TimeoutError

    services = Services()
    services.unary(kit.UNARY, fail)

    async def scenario() -> None:
        async with serving(services=services) as here, here.dialled() as channel:
            with pytest.raises(InternalError):
                await ask(channel)

    kit.run(scenario, loop)


def test_disconnect_closes_the_connections_of_whom_it_names(loop: str) -> None:
    async def scenario() -> None:
        async with (
            serving() as here,
            here.dialled(kit.NODE) as node,
            here.dialled(kit.OWNER) as owner,
            node.open(kit.BOTH) as theirs,
            owner.open(kit.BOTH) as ours,
        ):
            await theirs.send(BytesValue(value=b"1"))
            await ours.send(BytesValue(value=b"1"))
            assert await theirs.receive() == await ours.receive()
            assert here.server.disconnect(lambda peer: peer.identity == NODE_ID) == 1
            with pytest.raises(UnavailableError):
                await theirs.receive()
            await ours.send(BytesValue(value=b"2"))
            assert await ours.receive() == BytesValue(value=b"2")

    kit.run(scenario, loop)


def test_leaving_the_server_ends_everything_at_once_and_leaves_nothing(loop: str) -> None:
    async def scenario() -> None:
        now_s = asyncio.get_running_loop().time
        async with AsyncExitStack() as after:
            async with serving() as here:
                caller = await after.enter_async_context(here.dialled())
                stalled = await after.enter_async_context(here.raw())
                stream = await after.enter_async_context(caller.open(kit.DOWN))
                await stream.send(BytesValue())
                await here.echo.begun.wait()
                begun_s = now_s()
            assert now_s() - begun_s < 2
            assert here.echo.cancelled.is_set()
            assert await stalled.reader.read() == b""
            with pytest.raises(UnavailableError):
                await receive_all(stream)

    kit.run(scenario, loop)


async def receive_all(stream: Any) -> None:
    while await stream.receive() is not None:
        pass


def test_an_address_that_cannot_be_bound_is_told_with_a_remedy(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here:
            with pytest.raises(UnavailableError, match="cannot listen on 127") as caught:
                async with here.transport.serve(
                    here.server.endpoint,
                    credentials=kit.SERVER,
                    services=Services(),
                    authenticator=here.server.authenticator,
                ):
                    pass
            assert caught.value.remedy

    kit.run(scenario, loop)


def test_an_answer_over_the_limit_is_an_error_of_the_call(loop: str) -> None:
    async def grow(_request: BytesValue, _peer: Peer) -> BytesValue:
        return BytesValue(value=bytes(5 * MIB))

    services = Services()
    services.unary(kit.UNARY, grow)

    async def scenario() -> None:
        async with serving(services=services) as here, here.dialled() as channel:
            with pytest.raises(ResourceExhaustedError, match="larger than the limit"):
                await ask(channel)

    kit.run(scenario, loop)


def test_a_reader_that_stops_reading_holds_the_server_back(loop: str) -> None:
    sent = 0

    async def pour(stream: Any) -> None:
        nonlocal sent
        while True:
            await stream.send(BytesValue(value=bytes(1 << 16)))
            sent += 1

    services = Services()
    services.stream(kit.DOWN, pour)

    async def scenario() -> None:
        async with serving(services=services) as here, here.raw() as peer:
            peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1})
            peer.h2.increment_flow_control_window(2**30)
            await peer.begin_h2()
            await peer.request(kit.DOWN.path, HELLO)
            await asyncio.sleep(0.5)
            before = sent
            await asyncio.sleep(0.2)
            assert sent == before
            assert sent < 300  # socket buffers of the kernel, and 64 KiB of ours

    kit.run(scenario, loop)
