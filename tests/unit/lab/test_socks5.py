# SPDX-License-Identifier: Apache-2.0
"""The proxy's protocol: what a client may say, and what it gets when it says something else."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.lab.socks5 import (
    EARLY_BYTES_MAX,
    Command,
    Dial,
    Handshake,
    Refuse,
    Reply,
    Rules,
    Send,
    encode_reply,
)

GREETING = b"\x05\x01\x00"
ADDRESS = "10.1.0.2"
NODE_ID = "metropolis-0123456789abcdef0123456789abcdef"
IPV6 = "fd00::2"
RULES = Rules(
    addresses={ADDRESS: ADDRESS, NODE_ID: ADDRESS, IPV6: IPV6}, tcp_ports=frozenset({7835, 7839})
)


def request(
    host: str = ADDRESS, port: int = 7835, *, command: int = 1, kind: int | None = None
) -> bytes:
    try:
        address = ipaddress.ip_address(host)
        body, right = address.packed, 1 if address.version == 4 else 4
    except ValueError:
        body, right = bytes((len(host),)) + host.encode("latin-1"), 3
    kind = right if kind is None else kind
    return bytes((5, command, 0, kind)) + body + port.to_bytes(2, "big")


def converse(*chunks: bytes) -> list[Command]:
    handshake = Handshake(RULES)
    return [command for chunk in chunks for command in handshake.receive(chunk)]


@pytest.mark.parametrize(
    ("host", "address"),
    [(ADDRESS, ADDRESS), (IPV6, IPV6), (NODE_ID, ADDRESS), (NODE_ID.upper(), ADDRESS)],
)
def test_a_node_is_reached_by_address_and_by_id(host: str, address: str) -> None:
    assert converse(GREETING, request(host)) == [Send(b"\x05\x00"), Dial(address, 7835)]


@pytest.mark.parametrize(
    "bad",
    [
        request(port=22),
        request(port=7834),
        request("10.1.0.3"),
        request("127.0.0.1"),
        request("::ffff:10.1.0.2"),
        request("localhost"),
        request(""),
        request("\xe9\xff"),
    ],
)
def test_anything_that_the_rules_do_not_list_is_not_allowed(bad: bytes) -> None:
    _, refusal = converse(GREETING, bad)
    assert isinstance(refusal, Refuse)
    assert refusal.data == encode_reply(Reply.NOT_ALLOWED) == b"\x05\x02\0\x01\0\0\0\0\0\0"


@pytest.mark.parametrize(
    ("bad", "reply"),
    [
        (request(command=2), Reply.COMMAND_UNSUPPORTED),
        (request(command=3), Reply.COMMAND_UNSUPPORTED),
        (request(kind=2), Reply.ADDRESS_UNSUPPORTED),
        (b"\x05\x01\x01" + request()[3:], Reply.GENERAL_FAILURE),
        (b"\x04\x01", Reply.GENERAL_FAILURE),
    ],
)
def test_requests_outside_the_protocol_are_refused_with_its_codes(bad: bytes, reply: Reply) -> None:
    _, refusal = converse(GREETING, bad)
    assert isinstance(refusal, Refuse)
    assert refusal.data == encode_reply(reply)


def test_a_client_that_insists_on_a_password_is_told_so() -> None:
    (refusal,) = converse(b"\x05\x01\x02")
    assert isinstance(refusal, Refuse)
    assert refusal.data == b"\x05\xff"


@pytest.mark.parametrize("hello", [b"\x04\x01\x1e\x9b", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01"])
def test_another_protocol_gets_no_answer_at_all(hello: bytes) -> None:
    (refusal,) = converse(hello)
    assert isinstance(refusal, Refuse)
    assert refusal.data == b""


def test_bytes_sent_ahead_belong_to_the_connection() -> None:
    handshake = Handshake(RULES)
    handshake.receive(GREETING + request() + b"early")
    assert handshake.is_decided
    assert handshake.early == b"early"
    handshake.receive(b" bird")
    assert handshake.early == b"early bird"


def test_bytes_sent_ahead_are_bounded() -> None:
    handshake = Handshake(RULES)
    handshake.receive(GREETING + request())
    (refusal,) = handshake.receive(bytes(EARLY_BYTES_MAX + 1))
    assert isinstance(refusal, Refuse)


@given(
    st.lists(st.sampled_from([GREETING, request(), request(NODE_ID), b"x", b"\x05", b"\0"])),
    st.data(),
)
def test_how_bytes_are_cut_into_packets_changes_nothing(
    pieces: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(pieces)
    whole = Handshake(RULES)
    expected = whole.receive(stream)
    cut = Handshake(RULES)
    got: list[Command] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += cut.receive(stream[:size])
        stream = stream[size:]
    if any(isinstance(command, Refuse) for command in expected):
        assert got[: len(expected)] == expected
    else:
        assert got == expected
        assert cut.early == whole.early


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_garbage_is_never_dialled_outside_the_rules_and_never_raises(chunks: list[bytes]) -> None:
    for command in converse(*chunks):
        if isinstance(command, Dial):
            assert command.address in {ADDRESS, IPV6}
            assert command.tcp_port in {7835, 7839}


@given(st.integers(0, 255), st.binary(max_size=255), st.binary(max_size=600))
def test_almost_right_requests_never_raise(kind: int, address: bytes, rest: bytes) -> None:
    length = bytes((len(address),)) if kind == 3 else b""
    converse(GREETING, bytes((5, 1, 0, kind)) + length + address + rest)
