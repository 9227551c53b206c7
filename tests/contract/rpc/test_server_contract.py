# SPDX-License-Identifier: Apache-2.0
"""A server among hostile, clumsy and foreign clients. On real sockets, both loops."""

import asyncio
import logging
import re
from contextlib import AsyncExitStack
from typing import Any

import h2.events
import h2.settings
import pytest
from google.protobuf.wrappers_pb2 import BytesValue
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.rpc import kit
from contract.rpc.kit import HELLO, NODE_ID, ask, framed, outcome, serving, still_serves
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


def test_a_call_that_ended_before_its_caller_did_is_over_for_both(loop: str) -> None:
    async def take_one(stream: Any) -> None:
        await stream.send(await stream.receive())

    services = Services()
    services.stream(kit.BOTH, take_one)

    async def scenario() -> None:
        async with serving(services=services) as here, here.raw() as peer:
            await peer.begin_h2()
            stream = await peer.request(kit.BOTH.path, HELLO, is_last=False)
            assert (await outcome(peer))["grpc-status"] == "0"
            event = await peer.event(h2.events.StreamReset)
            assert (event.stream_id, event.error_code) == (stream, 0)

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
            await peer.begin_h2()
            peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1})
            peer.h2.increment_flow_control_window(2**30)
            await peer.request(kit.DOWN.path, HELLO)
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.3)
            assert 10 < sent < 300  # the socket buffers of the kernel, and 64 KiB of ours

    kit.run(scenario, loop)
