# SPDX-License-Identifier: Apache-2.0
"""DHCP messages and packets as bytes: whatever a stranger sends, one error or a message."""

from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.protocols.dhcp4.lease import LeasedRoute, RefusedLeaseError, read_lease
from metropolis.protocols.dhcp4.message import (
    MalformedMessageError,
    Message,
    MessageType,
    Option,
    decode,
    encode,
)
from metropolis.protocols.dhcp4.packet import decode_packet, encode_packet
from unit.protocols.dhcp4_server import IDENTITY

ADDRESSES = st.integers(0, 2**32 - 1).map(IPv4Address)
OPTIONS = st.dictionaries(
    st.integers(1, 254).filter(lambda number: number != Option.OVERLOAD),
    st.binary(max_size=600),
    max_size=6,
)
MESSAGES = st.builds(
    Message,
    is_reply=st.booleans(),
    transaction=st.integers(0, 2**32 - 1),
    hardware_address=st.binary(min_size=6, max_size=6),
    elapsed_s=st.integers(0, 65535),
    wants_broadcast=st.booleans(),
    client_address=ADDRESSES,
    your_address=ADDRESSES,
    server_address=ADDRESSES,
    relay_address=ADDRESSES,
    options=OPTIONS,
)
BASE: dict[int, bytes] = {
    Option.MESSAGE_TYPE: bytes([MessageType.ACK]),
    Option.SERVER_IDENTIFIER: bytes([192, 0, 2, 1]),
    Option.SUBNET_MASK: bytes([255, 255, 255, 0]),
    Option.LEASE_TIME: (600).to_bytes(4, "big"),
}


def ack(options: dict[int, bytes]) -> Message:
    return Message(
        is_reply=True,
        transaction=1,
        hardware_address=IDENTITY.hardware_address,
        your_address=IPv4Address("192.0.2.7"),
        options={**BASE, **options},
    )


@given(MESSAGES)
def test_a_message_comes_back_from_its_bytes(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=600))
def test_any_bytes_are_a_message_or_the_one_error(data: bytes) -> None:
    with suppress(MalformedMessageError):
        decode(data)


@given(MESSAGES, st.data())
def test_a_damaged_message_is_a_message_or_the_one_error_and_its_terms_are_judged(
    message: Message, data: st.DataObject
) -> None:
    raw = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        lease = read_lease(decode(bytes(raw[: data.draw(st.integers(0, len(raw)))])))
    except (MalformedMessageError, RefusedLeaseError):
        return
    assert 0 < lease.renew_s <= lease.rebind_s <= lease.lease_s


@given(st.dictionaries(st.sampled_from(list(Option)), st.binary(max_size=40), max_size=12))
def test_any_terms_are_a_lease_or_the_one_error(options: dict[int, bytes]) -> None:
    try:
        lease = read_lease(ack({int(key): value for key, value in options.items()}))
    except RefusedLeaseError:
        return
    assert 0 < lease.renew_s <= lease.rebind_s <= lease.lease_s


def test_an_option_that_overruns_its_message_is_refused() -> None:
    raw = encode(Message(is_reply=True, transaction=1, hardware_address=bytes(6)))[:240]
    with pytest.raises(MalformedMessageError, match="option 51 is longer"):
        decode(raw + bytes([51, 4, 0, 0]))


def test_options_that_overflowed_into_the_file_and_name_fields_are_found() -> None:
    raw = bytearray(encode(Message(is_reply=True, transaction=1, hardware_address=bytes(6))))
    raw[44:50] = bytes([Option.ROUTER, 4, 192, 0, 2, 1])  # sname
    raw[50] = Option.END
    raw[108:114] = bytes([Option.SUBNET_MASK, 4, 255, 255, 0, 0])  # file
    raw[114] = Option.END
    raw[240:244] = bytes([Option.OVERLOAD, 1, 3, Option.END])
    message = decode(bytes(raw))
    assert message.address_option(Option.ROUTER) == IPv4Address("192.0.2.1")
    assert message.address_option(Option.SUBNET_MASK) == IPv4Address("255.255.0.0")


def test_classless_routes_override_the_router() -> None:
    routes = bytes([24, 10, 1, 2, 192, 0, 2, 9]) + bytes([0, 192, 0, 2, 254])
    routes += bytes([32, 169, 254, 169, 254, 0, 0, 0, 0])
    lease = read_lease(ack({Option.CLASSLESS_ROUTES: routes, Option.ROUTER: bytes([192, 0, 2, 1])}))
    assert lease.routes == (
        LeasedRoute(destination=IPv4Network("10.1.2.0/24"), gateway=IPv4Address("192.0.2.9")),
        LeasedRoute(destination=IPv4Network("0.0.0.0/0"), gateway=IPv4Address("192.0.2.254")),
        LeasedRoute(destination=IPv4Network("169.254.169.254/32"), gateway=None),
    )


def test_damaged_classless_routes_leave_the_router_in_charge() -> None:
    lease = read_lease(
        ack({Option.CLASSLESS_ROUTES: bytes([33, 1]), Option.ROUTER: bytes([192, 0, 2, 1])})
    )
    assert [each.gateway for each in lease.routes] == [IPv4Address("192.0.2.1")]


def test_servers_are_kept_in_order_without_nonsense_and_repetition() -> None:
    servers = bytes([9, 9, 9, 9, 0, 0, 0, 0, 127, 0, 0, 1, 8, 8, 8, 8, 9, 9, 9, 9])
    lease = read_lease(ack({Option.NAME_SERVERS: servers, Option.TIME_SERVERS: servers[:8]}))
    assert [str(each) for each in lease.name_servers] == ["9.9.9.9", "8.8.8.8"]
    assert [str(each) for each in lease.time_servers] == ["9.9.9.9"]


@pytest.mark.parametrize(("told", "believed"), [(1460, 1460), (68, None), (1280, 1280), (0, None)])
def test_an_mtu_too_small_to_work_with_is_not_believed(told: int, believed: int | None) -> None:
    lease = read_lease(ack({Option.INTERFACE_MTU: told.to_bytes(2, "big")}))
    assert lease.mtu_bytes == believed


def test_renewal_times_that_make_no_sense_are_replaced() -> None:
    times: dict[int, bytes] = {
        Option.RENEWAL_TIME: (599).to_bytes(4, "big"),
        Option.REBINDING_TIME: (100).to_bytes(4, "big"),
    }
    lease = read_lease(ack(times))
    assert (lease.renew_s, lease.rebind_s) == (100, 100)
    lease = read_lease(ack({Option.REBINDING_TIME: (601).to_bytes(4, "big")}))
    assert (lease.renew_s, lease.rebind_s) == (300, 510)


@given(st.binary(max_size=900), ADDRESSES, ADDRESSES)
def test_a_packet_comes_back_from_its_bytes(
    payload: bytes, source: IPv4Address, destination: IPv4Address
) -> None:
    packet = encode_packet(payload, source=source, destination=destination)
    as_reply = packet[:20] + packet[22:24] + packet[20:22] + packet[24:]  # ports change places
    datagram = decode_packet(as_reply)
    assert (datagram.source, datagram.destination) == (source, destination)
    assert datagram.payload == payload


@given(st.binary(max_size=100))
def test_any_bytes_are_a_packet_or_the_one_error(data: bytes) -> None:
    with suppress(MalformedMessageError):
        decode_packet(data)


@given(st.integers(0, 127), st.integers(0, 7))
def test_a_damaged_packet_is_refused(position: int, bit: int) -> None:
    address = IPv4Address("192.0.2.1")
    packet = encode_packet(bytes(range(100)), source=address, destination=address)
    raw = bytearray(packet[:20] + packet[22:24] + packet[20:22] + packet[24:])
    raw[position] ^= 1 << bit
    try:
        damaged = decode_packet(bytes(raw))
    except MalformedMessageError:
        return
    assert position in {20, 21}  # the source port, which is swapped and not looked at
    assert damaged.payload == bytes(range(100))
