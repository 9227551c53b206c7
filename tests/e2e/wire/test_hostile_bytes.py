# SPDX-License-Identifier: Apache-2.0
"""Whatever arrives, the answer is a clear status or a closed connection, and the node lives on."""

import contextlib
import random
import struct
from collections.abc import Iterator, Sequence

import pytest

from e2e.wire import paths
from e2e.wire.go_certificates import new_ephemeral
from e2e.wire.go_client import (
    DEADLINE_EXCEEDED,
    INVALID_ARGUMENT,
    OK,
    RESOURCE_EXHAUSTED,
    UNAUTHENTICATED,
    UNIMPLEMENTED,
    GoClient,
    dialled,
)
from e2e.wire.go_tls import GoTls, RefusedError
from e2e.wire.protobuf_bytes import encode
from e2e.wire.site import Site

GARBAGE = b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
MANAGEMENT = [
    path for name, path in vars(paths).items() if name[0] != "_" and ".Management/" in str(path)
]
MEBIBYTE = 1 << 20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.fixture(autouse=True)
def the_node_lives_on(site: Site) -> Iterator[None]:
    yield
    with site.as_owner() as client:
        assert client.call(paths.GET_CLUSTER_INFO).code == OK
    assert site.boots() == 1


def prefix(flag: int, length: int) -> bytes:
    return struct.pack(">BI", flag, length)


@pytest.mark.parametrize("path", [*MANAGEMENT, paths.ESCROW, paths.WATCH, paths.REGISTER_NODE])
def test_bytes_that_are_no_message_are_a_bad_request(owner: GoClient, path: str) -> None:
    stream = owner.open(path)
    stream.send(GARBAGE)
    if path != paths.ESCROW:
        stream.send_raw(b"", is_last=True)
    assert stream.status().code == INVALID_ARGUMENT


def test_random_bytes_never_leave_a_call_without_a_status(owner: GoClient) -> None:
    seeded = random.Random(2)
    for _ in range(150):
        path = seeded.choice(MANAGEMENT)
        request = seeded.randbytes(seeded.randrange(64))
        assert 0 <= owner.call(path, request).code <= 16


def test_a_stranger_with_garbage_is_only_told_that_it_is_a_stranger(site: Site) -> None:
    with site.curator(None) as client:
        for path in MANAGEMENT:
            assert client.call(path, GARBAGE).code == UNAUTHENTICATED


@pytest.mark.parametrize("length", [4 * MEBIBYTE + 1, 200 * MEBIBYTE, (1 << 32) - 1])
@pytest.mark.parametrize("tcp_port", [paths.CURATOR_TCP_PORT, paths.NODE_MANAGEMENT_TCP_PORT])
def test_a_message_is_refused_by_its_announced_size(site: Site, tcp_port: int, length: int) -> None:
    path = paths.GET_NODES if tcp_port == paths.CURATOR_TCP_PORT else paths.LOGS
    with site.as_owner(tcp_port) as client:
        stream = client.open(path)
        stream.send_raw(prefix(0, length) + bytes(1000))
        assert stream.status().code == RESOURCE_EXHAUSTED
        assert client.call(path, GARBAGE).code == INVALID_ARGUMENT


def test_a_large_message_below_the_limit_is_read(owner: GoClient) -> None:
    stream = owner.open(paths.GET_NODES)
    stream.send(encode((1, "x" * (3 * MEBIBYTE))), is_last=True)
    assert stream.status().code == INVALID_ARGUMENT  # as a filter it is too long


@pytest.mark.parametrize("encoding", [None, "identity", "gzip"])
def test_compressed_messages_are_unimplemented(owner: GoClient, encoding: str | None) -> None:
    stream = owner.open(paths.GET_NODES, grpc_encoding=encoding)
    stream.send_raw(prefix(1, 4) + b"\x1f\x8b\x08\x00", is_last=True)
    status = stream.status()
    assert (status.code, "compress" in status.text) == (UNIMPLEMENTED, True)


def test_an_encoding_may_be_offered_without_being_used(owner: GoClient) -> None:
    stream = owner.open(paths.GET_CLUSTER_INFO, grpc_accept_encoding="gzip,deflate")
    stream.send(b"", is_last=True)
    assert stream.status().code == OK


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"", INVALID_ARGUMENT, id="no message"),
        pytest.param(b"\x00\x00", INVALID_ARGUMENT, id="cut prefix"),
        pytest.param(prefix(0, 10) + b"short", INVALID_ARGUMENT, id="cut message"),
        pytest.param(prefix(0, 0) + prefix(0, 0), INVALID_ARGUMENT, id="two messages"),
        pytest.param(prefix(7, 0), UNIMPLEMENTED, id="unknown flag"),
    ],
)
def test_a_call_of_one_request_takes_exactly_one(owner: GoClient, data: bytes, code: int) -> None:
    stream = owner.open(paths.GET_CLUSTER_INFO)
    stream.send_raw(data, is_last=True)
    assert stream.status().code == code


@pytest.mark.parametrize("content_type", [None, "", "text/html", "application/json"])
def test_other_content_types_are_no_grpc(owner: GoClient, content_type: str | None) -> None:
    changed = {"content-type": content_type}
    assert http_status(owner, changed) == "415"


@pytest.mark.parametrize("content_type", ["application/grpc+proto", "application/grpc;v=1"])
def test_content_types_may_name_the_encoding(owner: GoClient, content_type: str) -> None:
    stream = owner.open(paths.GET_CLUSTER_INFO, content_type=content_type)
    stream.send(b"", is_last=True)
    assert stream.status().code == OK


def http_status(client: GoClient, changed: dict[str, str | None]) -> str:
    stream = client.open(paths.GET_CLUSTER_INFO, **changed)
    client.pump(lambda: stream.is_ended)
    return (stream.headers or {})[":status"]


@pytest.mark.parametrize("changed", [{"te": None}, {"user_agent": None}])
def test_headers_that_nobody_needs_may_be_absent(
    owner: GoClient, changed: dict[str, str | None]
) -> None:
    stream = owner.open(paths.GET_CLUSTER_INFO, **changed)
    stream.send(b"", is_last=True)
    assert stream.status().code == OK


@pytest.mark.parametrize(
    ("timeout", "code"),
    [
        ("10S", OK),
        ("99999999H", OK),
        ("1n", DEADLINE_EXCEEDED),
        ("", INVALID_ARGUMENT),
        ("10", INVALID_ARGUMENT),
        ("-1S", INVALID_ARGUMENT),
        ("123456789S", INVALID_ARGUMENT),
        ("1 S", INVALID_ARGUMENT),
    ],
)
def test_deadlines_are_kept_or_refused(owner: GoClient, timeout: str, code: int) -> None:
    stream = owner.open(paths.GET_CLUSTER_INFO, grpc_timeout=timeout)
    stream.send(b"", is_last=True)
    assert stream.status().code == code


def test_a_call_that_is_dropped_harms_no_other(owner: GoClient) -> None:
    for _ in range(50):
        owner.begin(paths.GET_NODES).cancel()
    assert owner.call(paths.GET_CLUSTER_INFO).code == OK


@pytest.mark.parametrize(
    "data",
    [
        pytest.param([b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"], id="HTTP/1.1"),
        pytest.param([PREFACE, b"\xff" * 300], id="no frames"),
        pytest.param([random.Random(1).randbytes(5000)], id="random"),
        pytest.param(
            [b"PRI * HTTP/2.0\r\n\r\n", b"SM\r\n\r\n" + b"\0\0\0\x01\x05" * 9], id="headers"
        ),
    ],
)
@pytest.mark.parametrize("tcp_port", [paths.CURATOR_TCP_PORT, paths.NODE_MANAGEMENT_TCP_PORT])
def test_who_does_not_speak_http2_is_disconnected(
    site: Site, tcp_port: int, data: Sequence[bytes]
) -> None:
    tls = GoTls(site.address(tcp_port), new_ephemeral())
    assert hangs_up(tls, data)
    tls.close()


def hangs_up(tls: GoTls, data: Sequence[bytes]) -> bool:
    """Send something; say whether the server ends the connection over it."""
    try:
        for part in data:
            tls.send(part)
        while answer := tls.receive(5.0):
            pass
    except RefusedError:
        return True
    return answer is not None


def test_headers_without_end_are_not_listened_to(site: Site) -> None:
    def frame(kind: int, payload: bytes) -> bytes:
        return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + b"\0\0\0\x01" + payload

    part = bytes(1 << 14)
    headers = [frame(1, part), *[frame(9, part)] * 10]
    tls = GoTls(site.address(), new_ephemeral())
    assert hangs_up(tls, [PREFACE, frame(4, b"").replace(b"\x01", b"\0"), *headers])
    tls.close()


def test_headers_that_are_too_large_end_the_call_or_the_connection(site: Site) -> None:
    with site.curator(new_ephemeral()) as client:
        assert not is_answered(client, "y" * 40_000)
    with site.curator(new_ephemeral()) as client:
        assert is_answered(client, "y" * 10_000)


def is_answered(client: GoClient, padding: str) -> bool:
    try:
        stream = client.open(paths.GET_CA_CERTIFICATE, x_padding=padding)
        stream.send(b"", is_last=True)
        return stream.status().code == OK
    except RefusedError:
        return False


def test_a_flood_of_pings_is_stopped(site: Site) -> None:
    with dialled(site.address(), new_ephemeral(), pings=False) as client:
        with contextlib.suppress(RefusedError):
            flood(client, 10_000)
        assert (client.goodbye or "").startswith("GOAWAY 11")  # enhance your calm


def flood(client: GoClient, count: int) -> None:
    for number in range(count):
        if client.goodbye is None:
            client.h2.ping(struct.pack(">Q", number))
        if number % 100 == 0:
            client.flush()
            client.idle(0.002)


def test_clients_may_ping_as_often_as_data_arrives(owner: GoClient) -> None:
    # grpc-go measures bandwidth with a ping for every burst of data.
    enough = owner.acknowledged + 2100  # more than a flood may have in its ten seconds
    calls = 0
    while owner.acknowledged < enough:
        assert owner.call(paths.GET_CA_CERTIFICATE).code == OK
        calls += 1
    assert calls < 2 * 2100
