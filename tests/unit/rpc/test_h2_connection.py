# SPDX-License-Identifier: Apache-2.0
"""Our HTTP/2 connection behaves as h2's does, and is lighter."""

import gc
import weakref
from typing import Any

import pytest
from h2.connection import H2Connection
from h2.events import ResponseReceived, TrailersReceived
from h2.exceptions import ProtocolError
from hyperframe.frame import (
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given
from hypothesis import strategies as st

from metropolis.rpc.grpc.h2_connection import FINE, RESPONSE, LightConnection
from metropolis.rpc.grpc.h2_settings import h2_configuration, h2_settings
from metropolis.rpc.limits import Limits

LIMITS = Limits()
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize()
STREAMS = st.sampled_from([0, 1, 2, 3, 5])
REQUEST = [
    (":method", "POST"),
    (":scheme", "https"),
    (":path", "/test.Kit/Unary"),
    (":authority", "x"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]


def plain_connection(*, is_client: bool) -> H2Connection:
    """What we had without the lighter one."""
    connection = H2Connection(config=h2_configuration(is_client=is_client))
    connection.local_settings = h2_settings(LIMITS, is_client=is_client)
    connection.decoder.max_header_list_size = LIMITS.header_bytes
    connection.initiate_connection()
    connection.increment_flow_control_window(
        LIMITS.connection_window_bytes - connection.inbound_flow_control_window
    )
    return connection


def light_connection(*, is_client: bool = False) -> LightConnection:
    return LightConnection(LIMITS, is_client=is_client)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """One frame, often of a stream that has ended or never began."""
    stream = draw(STREAMS)
    kind = draw(st.sampled_from(["headers", "data", "reset", "ping", "settings", "window"]))
    flags: list[str] = []
    frame: Frame
    if kind == "headers":
        headers = HeadersFrame(stream or 1)
        # Literals that enter no table, so that frames can be mixed at will.
        headers.data = b"\x83\x87\x04\x02/x\x01\x01x"
        headers.flags.add("END_HEADERS")
        frame = headers
        flags = ["END_STREAM"]
    elif kind == "data":
        frame = DataFrame(stream or 1, data=draw(st.binary(max_size=9)))
        flags = ["END_STREAM"]
    elif kind == "reset":
        frame = RstStreamFrame(stream or 1, error_code=8)
    elif kind == "ping":
        frame = PingFrame(0, opaque_data=b"12345678")
        flags = ["ACK"]
    elif kind == "settings":
        frame = SettingsFrame(0, settings={4: draw(st.integers(0, 1 << 16))})
    else:
        frame = WindowUpdateFrame(stream, window_increment=draw(st.integers(1, 1 << 20)))
    for flag in flags:
        if draw(st.booleans()):
            frame.flags.add(flag)
    return bytes(frame.serialize())


def taken(connection: H2Connection, data: bytes) -> tuple[list[str], str, bytes]:
    """Return the events, the error and the answer of what a connection received."""
    events: list[Any] = []
    error = ""
    try:
        events = connection.receive_data(data)
    except ProtocolError as raised:
        error = f"{type(raised).__name__}: {raised}"
    return [repr(event) for event in events], error, connection.data_to_send()


@given(st.lists(st.tuples(frames(), st.booleans()), max_size=12))
def test_it_takes_every_frame_as_h2_does(received: list[tuple[bytes, bool]]) -> None:
    plain, light = plain_connection(is_client=False), light_connection()
    assert plain.data_to_send() == light.data_to_send()
    for data, is_reset in [(PREFACE, False), *received]:
        answers = [taken(connection, data) for connection in (plain, light)]
        assert answers[0] == answers[1]
        if answers[0][1]:
            return
        if is_reset and 1 in plain.streams and not plain.streams[1].closed:
            for connection in (plain, light):
                connection.reset_stream(1)
                connection.data_to_send()


def ask(client: H2Connection, server: H2Connection) -> int:
    stream_id: int = client.get_next_available_stream_id()
    client.send_headers(stream_id, REQUEST, end_stream=True)
    server.receive_data(client.data_to_send())
    return stream_id


@pytest.mark.parametrize("make_client", [plain_connection, light_connection])
def test_others_understand_the_headers_that_were_encoded_before(make_client: Any) -> None:
    client, server = make_client(is_client=True), light_connection()
    for _ in range(2):
        stream_id = ask(client, server)
        server.send_headers(stream_id, list(RESPONSE))
        server.send_headers(stream_id, list(FINE), end_stream=True)
        events = client.receive_data(server.data_to_send())
        headers: list[Any] = [
            [tuple(header) for header in event.headers]
            for event in events
            if isinstance(event, ResponseReceived | TrailersReceived)
        ]
        assert headers == [list(RESPONSE), list(FINE)]


def test_a_peer_that_wants_another_table_is_told_so_before_anything_else() -> None:
    client, server = plain_connection(is_client=True), light_connection()
    server.receive_data(client.data_to_send())
    client.update_settings({1: 128})  # HEADER_TABLE_SIZE
    stream_id = ask(client, server)
    server.send_headers(stream_id, list(RESPONSE))
    sent = server.data_to_send()
    assert bytes([0x3F, 128 - 31]) in sent  # the size of the table: RFC 7541, 6.3
    client.receive_data(sent)  # which raises if it was not told


def test_it_is_gone_when_nobody_holds_it() -> None:
    gc.disable()
    try:
        client, server = light_connection(is_client=True), light_connection()
        ask(client, server)
        gone = weakref.ref(server)
        del server
        assert gone() is None
    finally:
        gc.enable()


def test_connections_with_the_same_limits_share_their_own_settings() -> None:
    assert light_connection().local_settings is light_connection().local_settings
    other = LightConnection(Limits(header_bytes=1 << 10), is_client=False)
    assert other.local_settings is not light_connection().local_settings
    assert light_connection().remote_settings is not light_connection().remote_settings
