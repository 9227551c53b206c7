# SPDX-License-Identifier: Apache-2.0
"""NodeManagement.Logs on port 7839, as `metroctl node logs` reads it."""

import base64
from collections.abc import Iterator

import pytest

from e2e.wire import paths
from e2e.wire.enrolment import UNLOCK_KEY, enrolled_node, new_machine
from e2e.wire.go_certificates import Identity
from e2e.wire.go_client import (
    INVALID_ARGUMENT,
    OK,
    PERMISSION_DENIED,
    UNAUTHENTICATED,
    GoClient,
)
from e2e.wire.go_tls import Address
from e2e.wire.protobuf_bytes import Fields, encode
from e2e.wire.site import Site

DISABLE, ALL, COUNT = 1, 2, 3
UNBUFFERED = 2
INFO, WARNING, ERROR, FATAL = 1, 2, 3, 4

WITH_CHILDREN = (2, encode((1, b"")))
ONLY_RAW = (2, encode((3, b"")))
ONLY_LEVELED = (2, encode((4, b"")))
PER_MESSAGE_MAX = 2000


def at_least(severity: int) -> tuple[int, bytes]:
    return (2, encode((5, encode((1, severity)))))


@pytest.fixture
def node(site: Site) -> Iterator[GoClient]:
    """The owner, connected to the founder itself."""
    with site.as_owner(paths.NODE_MANAGEMENT_TCP_PORT) as client:
        assert client.expect_node(site.ca) == site.node_id
        yield client


def read(
    client: GoClient, dn: str, *more: tuple[int, int | bytes], mode: int = ALL
) -> list[Fields]:
    """Read a backlog, judging every entry as upstream's client does."""
    status = client.call(paths.LOGS, encode((1, dn), (3, mode), *more))
    assert status.code == OK, status.text
    entries: list[Fields] = []
    for message in map(Fields, status.messages):
        assert message.numbers == [1]
        assert 0 < len(message.messages(1)) <= PER_MESSAGE_MAX
        entries += message.messages(1)
    for entry in entries:
        check_entry(entry)
    return entries


def check_entry(entry: Fields) -> None:
    """Refuse what upstream's client prints as `invalid stream entry`."""
    assert all(entry.text(1).split(".")) or entry.text(1) == ""
    assert (2 in entry) != (3 in entry)
    if 3 in entry:
        raw = entry.message(3)
        raw.text(1)
        assert raw.integer(2) >= len(raw.data(1))
        return
    leveled = entry.message(2)
    assert leveled.integer(3) in (INFO, WARNING, ERROR, FATAL)
    _file, number = leveled.text(4).split(":")
    assert number.isdecimal()
    assert leveled.message(2).integer(1) > 1_700_000_000
    assert 1 in leveled


def dns(entries: list[Fields]) -> set[str]:
    return {entry.text(1) for entry in entries}


def severities(entries: list[Fields]) -> set[int]:
    return {entry.message(2).integer(3) for entry in entries}


def test_everything_is_read_by_default(node: GoClient) -> None:
    entries = read(node, "", WITH_CHILDREN)
    assert {"root.enrolment", "root.role.controlplane.consensus.etcd"} <= dns(entries)
    assert {INFO, WARNING} <= severities(entries)


def test_a_name_selects_exactly_or_its_subtree(node: GoClient) -> None:
    assert dns(read(node, "root.enrolment")) == {"root.enrolment"}
    assert read(node, "root.role") == []
    below = dns(read(node, "root.role", WITH_CHILDREN))
    assert len(below) > 3
    assert all(dn.startswith("root.role.") for dn in below)
    assert read(node, "root.enrol", WITH_CHILDREN) == []  # a component, not a prefix
    assert read(node, "root.no.such.name", WITH_CHILDREN) == []


def test_the_backlog_can_be_counted_or_left_out(node: GoClient) -> None:
    everything = [entry.raw for entry in read(node, "root.enrolment")]
    newest = read(node, "root.enrolment", (4, 3), mode=COUNT)
    assert [entry.raw for entry in newest] == everything[-3:]
    plenty = read(node, "root.enrolment", (4, 1 << 62), mode=COUNT)
    assert [entry.raw for entry in plenty] == everything
    assert read(node, "root.enrolment", mode=DISABLE) == []


def test_filters_narrow_the_backlog(node: GoClient) -> None:
    warnings = read(node, "root", WITH_CHILDREN, at_least(WARNING))
    assert warnings
    assert min(severities(warnings)) == WARNING
    assert read(node, "", WITH_CHILDREN, at_least(FATAL)) == []
    leveled = read(node, "", WITH_CHILDREN, ONLY_LEVELED)
    assert all(2 in entry for entry in leveled)
    raw = read(node, "", WITH_CHILDREN, ONLY_RAW)
    assert all(3 in entry for entry in raw)
    unset = read(node, "root.enrolment", (2, b""))  # a filter that says nothing
    assert dns(unset) == {"root.enrolment"}


def test_filters_hold_for_the_stream_too(site: Site, node: GoClient) -> None:
    def follow(dn: str, *filters: tuple[int, bytes]) -> bytes:
        return encode((1, dn), (3, DISABLE), (5, UNBUFFERED), *filters)

    assert site.ticket  # made before, so that the next entry is of the registration
    matching = node.begin(paths.LOGS, follow("root.role.curator", WITH_CHILDREN, ONLY_LEVELED))
    others = [
        node.begin(paths.LOGS, follow("root.role.curator")),
        node.begin(paths.LOGS, follow("root.enrolment", WITH_CHILDREN)),
        node.begin(paths.LOGS, follow("root.role.curator", WITH_CHILDREN, at_least(ERROR))),
        node.begin(paths.LOGS, follow("", WITH_CHILDREN, ONLY_RAW)),
    ]
    node.idle(0.2)  # all are subscribed before something happens
    machine = new_machine()
    assert machine.register(site).code == OK
    message = matching.receive()
    assert message.numbers == [2]
    (entry,) = message.messages(2)
    check_entry(entry)
    assert machine.node_id in entry.message(2).text(1)
    node.idle(0.2)
    for stream in others:
        assert stream.messages == []
        assert not stream.is_ended
        stream.cancel()
    matching.cancel()
    with site.as_owner() as owner:
        machine.delete(owner)


def test_the_backlog_comes_before_the_stream(node: GoClient) -> None:
    request = encode((1, "root.enrolment"), (3, ALL), (5, UNBUFFERED))
    stream = node.begin(paths.LOGS, request)
    assert stream.receive().numbers == [1]
    node.idle(0.2)
    assert not stream.is_ended
    stream.cancel()
    assert read(node, "root.enrolment")


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"", id="no backlog mode"),
        pytest.param(encode((3, 9)), id="unknown backlog mode"),
        pytest.param(encode((3, COUNT)), id="no count"),
        pytest.param(encode((3, COUNT), (4, -1)), id="negative count"),
        pytest.param(encode((3, ALL), (1, "a..b")), id="empty component"),
        pytest.param(encode((3, ALL), (1, ".a")), id="leading dot"),
        pytest.param(encode((3, ALL), (1, "a" * 100_000)), id="long name"),
        pytest.param(encode((3, ALL), *[WITH_CHILDREN] * 11), id="eleven filters"),
        pytest.param(encode((3, ALL), ONLY_RAW, ONLY_LEVELED), id="raw and leveled"),
        pytest.param(encode((3, ALL), at_least(0)), id="no severity"),
        pytest.param(encode((3, ALL), at_least(5)), id="unknown severity"),
        pytest.param(encode((1, b"\xff\xfe"), (3, ALL)), id="not UTF-8"),
    ],
)
def test_bad_requests_are_refused(node: GoClient, request_bytes: bytes) -> None:
    status = node.call(paths.LOGS, request_bytes)
    assert (status.code, status.messages) == (INVALID_ARGUMENT, ())


@pytest.mark.parametrize("stream_mode", [0, 1, 99])
def test_only_unbuffered_streams(node: GoClient, stream_mode: int) -> None:
    assert read(node, "root.enrolment", (5, stream_mode))


def test_logs_are_for_the_owner_and_nobody_crashes_a_node(site: Site) -> None:
    # One call without a certificate used to reboot upstream's nodes.
    address = site.address(paths.NODE_MANAGEMENT_TCP_PORT)
    member = enrolled_node(site)
    for identity, code in (
        (None, UNAUTHENTICATED),
        (site.owner_key, UNAUTHENTICATED),
        (member.credentials, PERMISSION_DENIED),
        (site.owner, OK),
    ):
        assert logs_status(address, identity) == code
    with site.as_owner() as owner:
        member.delete(owner)
    assert site.boots() == 1


def logs_status(address: Address, identity: Identity | None) -> int:
    client = GoClient(address, identity)
    status = client.call(paths.LOGS, encode((1, "root.enrolment"), (3, ALL)))
    client.close()
    return status.code


def test_no_secret_of_an_enrolment_is_in_a_log(site: Site, node: GoClient) -> None:
    machine = enrolled_node(site)
    with site.as_owner() as owner:
        machine.delete(owner)
    status = node.call(paths.LOGS, encode((3, ALL), WITH_CHILDREN))
    written = b"".join(status.messages)
    assert machine.node_id.encode() in written
    for secret in (site.ticket, site.ticket[2:], UNLOCK_KEY):
        for spelled in (secret, secret.hex().encode(), base64.b64encode(secret)[:40]):
            assert spelled not in written
