# SPDX-License-Identifier: Apache-2.0
"""Log entries on the wire: what upstream's clients accept, and what we accept."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.api import logtree_pb2
from metropolis.base.errors import InvalidArgumentError
from metropolis.supervision import Entry, LeveledEntry, RawEntry, Severity
from metropolis.supervision.logtree_wire import from_wire, to_wire

THEN = datetime(2022, 2, 28, 13, 30, 45, 996960, tzinfo=UTC)
EARLIEST, LATEST = (THEN.replace(year=year, tzinfo=None) for year in (1970, 9999))
names = st.lists(st.from_regex(r"[a-z0-9_]{1,10}", fullmatch=True), max_size=4).map(".".join)
lines = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))
leveled = st.builds(
    LeveledEntry,
    names,
    st.lists(lines, min_size=1).map(tuple),
    st.datetimes(min_value=EARLIEST, max_value=LATEST, timezones=st.just(UTC)),
    st.sampled_from(Severity),
    st.from_regex(r"[a-z_.]{1,20}", fullmatch=True),
    st.integers(0, 999_999_999),
)
raw = st.builds(
    lambda dn, text, more: RawEntry(dn, text.encode(), len(text.encode()) + more),
    names,
    lines,
    st.integers(0, 10_000),
)


@given(leveled | raw)
def test_what_is_sent_is_what_arrives(entry: Entry) -> None:
    wire = to_wire(entry).SerializeToString()
    assert from_wire(logtree_pb2.LogEntry.FromString(wire)) == entry


def test_the_fields_are_upstreams() -> None:
    message = to_wire(LeveledEntry("root.a", ("one", "two"), THEN, Severity.ERROR, "a.py", 48))
    assert message.dn == "root.a"
    assert list(message.leveled.lines) == ["one", "two"]
    assert message.leveled.severity == logtree_pb2.LEVELED_LOG_SEVERITY_ERROR
    assert message.leveled.location == "a.py:48"
    assert message.leveled.timestamp.ToDatetime(tzinfo=UTC) == THEN


@pytest.mark.parametrize(
    ("file", "location"),
    [
        ("a.py", "a.py:1"),
        ("c:/a:b.py", "c_/a_b.py:1"),
        ("", "unknown:1"),
        ("\udcff", "<INVALID>:1"),
    ],
)
def test_a_location_has_exactly_one_colon(file: str, location: str) -> None:
    message = to_wire(LeveledEntry("a", ("x",), THEN, Severity.INFO, file, 1))
    assert message.leveled.location == location


@given(st.binary(max_size=50), st.integers(0, 20))
def test_bytes_that_are_no_text_are_marked_and_lengths_stay_possible(
    data: bytes, more: int
) -> None:
    message = to_wire(RawEntry("a", data, len(data) + more))
    assert message.raw.original_length >= len(message.raw.data.encode())
    assert (message.raw.original_length > len(message.raw.data.encode())) >= (more > 0)
    arrived = from_wire(logtree_pb2.LogEntry.FromString(message.SerializeToString()))
    assert isinstance(arrived, RawEntry)


def test_lone_surrogates_in_messages_can_be_sent() -> None:
    message = to_wire(LeveledEntry("a", ("bad \udcff name",), THEN, Severity.INFO, "a.py", 1))
    assert list(message.leveled.lines) == ["bad <INVALID> name"]
    message.SerializeToString()


def valid() -> logtree_pb2.LogEntry:
    return to_wire(LeveledEntry("a", ("x",), THEN, Severity.INFO, "a.py", 1))


def broken(**changes: object) -> logtree_pb2.LogEntry:
    message = valid()
    for name, value in changes.items():
        setattr(message.leveled, name, value)
    return message


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (logtree_pb2.LogEntry(dn="a"), "neither leveled nor raw"),
        (logtree_pb2.LogEntry(dn="a..b", raw=logtree_pb2.LogEntry.Raw()), "not a DN"),
        (
            logtree_pb2.LogEntry(
                dn="a", raw=logtree_pb2.LogEntry.Raw(data="xy", original_length=1)
            ),
            "longer than its original length",
        ),
        (broken(location="nowhere"), "not file:line"),
        (broken(location="a:b:1"), "not file:line"),
        (broken(location="a:" + "9" * 5000), "not file:line"),
        (broken(location="a:-1"), "not file:line"),
        (broken(severity=0), "severity is unknown"),
        (broken(severity=5), "severity is unknown"),
    ],
    ids=range(9),
)
def test_entries_that_cannot_be_are_refused(message: logtree_pb2.LogEntry, reason: str) -> None:
    with pytest.raises(InvalidArgumentError, match=reason):
        from_wire(message)


def test_a_time_out_of_range_is_refused() -> None:
    message = valid()
    message.leveled.timestamp.seconds = 10**15
    with pytest.raises(InvalidArgumentError, match="time is out of range"):
        from_wire(message)
