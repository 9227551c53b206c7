# SPDX-License-Identifier: Apache-2.0
"""Output of other programs, parsed into leveled messages: klog and etcd."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.supervision import LeveledLine, Severity
from metropolis.supervision.etcd_log import EtcdLogParser
from metropolis.supervision.klog import KlogParser, parse_klog

NOW = datetime(2022, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "E0312 14:20:04.240540    204 shared_informer.go:247] Caches are synced",
            None,  # eleven days ahead of NOW
        ),
        (
            "I0228 13:30:45.996960    1234 reconciler.go:48] Starting",
            LeveledLine(
                text="Starting",
                file="reconciler.go",
                line=48,
                timestamp=datetime(2022, 2, 28, 13, 30, 45, 996960, tzinfo=UTC),
            ),
        ),
        (
            "W0228 13:30:45.5 1 a.go:1] fraction",
            LeveledLine(
                text="fraction",
                severity=Severity.WARNING,
                file="a.go",
                line=1,
                timestamp=datetime(2022, 2, 28, 13, 30, 45, 500000, tzinfo=UTC),
            ),
        ),
        (
            "F0228 13:30:45 1 a.go:1] none: [x] \ty",
            LeveledLine(
                text="none: [x] \ty",
                severity=Severity.FATAL,
                file="a.go",
                line=1,
                timestamp=datetime(2022, 2, 28, 13, 30, 45, tzinfo=UTC),
            ),
        ),
        ("X0228 13:30:45 1 a.go:1] unknown severity", None),
        ("I0230 13:30:45 1 a.go:1] no such day", None),
        ("I0228 25:30:45 1 a.go:1] no such hour", None),
        ("I0228 13:30:45 1 a.go:1]", None),
        ("I0228 13:30:45 1 a.go] no line", None),
        ("I0228 13:30:45 1 a.go:99999999999] absurd line", None),
        ("goroutine 1 [running]:", None),
        ("", None),
    ],
)
def test_klog_lines(line: str, expected: LeveledLine | None) -> None:
    assert parse_klog(line, now=NOW) == expected


@pytest.mark.parametrize(
    ("now", "stamp", "expected_year"),
    [
        (datetime(2022, 3, 1, 12, tzinfo=UTC), "0301 11:59:59", 2022),
        (datetime(2022, 3, 1, 12, tzinfo=UTC), "0301 12:59:59", 2022),
        (datetime(2022, 3, 1, 12, tzinfo=UTC), "0301 13:00:01", None),
        (datetime(2022, 1, 1, 0, 0, 5, tzinfo=UTC), "1231 23:59:59", 2021),
        (datetime(2022, 1, 1, 12, tzinfo=UTC), "1230 12:00:01", 2021),
        (datetime(2022, 1, 1, 12, tzinfo=UTC), "1230 11:59:59", None),
        (datetime(2022, 1, 1, 12, tzinfo=UTC), "0601 00:00:00", None),
        (datetime(2024, 2, 29, 12, tzinfo=UTC), "0229 10:00:00", 2024),
        (datetime(2023, 3, 1, 12, tzinfo=UTC), "0229 10:00:00", None),
    ],
)
def test_the_year_that_klog_leaves_out(
    now: datetime, stamp: str, expected_year: int | None
) -> None:
    parsed = parse_klog(f"I{stamp} 1 a.go:1] x", now=now)
    year = parsed.timestamp.year if parsed is not None and parsed.timestamp is not None else None
    assert year == expected_year


def test_what_is_no_klog_line_is_quoted_as_an_error() -> None:
    parser = KlogParser()
    assert parser.parse(b"panic: \xff", now=NOW, is_truncated=True) == LeveledLine(
        text="Invalid klog line: panic: <INVALID>...", severity=Severity.ERROR
    )


def etcd(line: str | bytes, *, is_truncated: bool = False) -> LeveledLine:
    data = line.encode() if isinstance(line, str) else line
    return EtcdLogParser().parse(data, now=NOW, is_truncated=is_truncated)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            '{"ts":"2022-02-28T13:30:45.996Z","caller":"raft/raft.go:48","msg":"up","t":2,"l":"8"}',
            LeveledLine(
                text='up, l: "8", t: 2',
                file="raft.go",
                line=48,
                timestamp=datetime(2022, 2, 28, 13, 30, 45, 996000, tzinfo=UTC),
            ),
        ),
        ('{"level":"warn","msg":"slow"}', LeveledLine(text="slow", severity=Severity.WARNING)),
        ('{"level":"error","msg":"bad"}', LeveledLine(text="bad", severity=Severity.ERROR)),
        ('{"level":"panic","msg":"bad"}', LeveledLine(text="bad", severity=Severity.FATAL)),
        ('{"level":"dpanic","msg":"bad"}', LeveledLine(text="bad", severity=Severity.FATAL)),
        ('{"level":"fatal","msg":"bad"}', LeveledLine(text="bad", severity=Severity.FATAL)),
        ('{"level":"debug","msg":"fine"}', LeveledLine(text="fine")),
        ('{"a":{"b":[1]}}', LeveledLine(text='<empty>, a: {"b":[1]}')),
        ("{}", LeveledLine(text="")),
        ("no json", LeveledLine(text="Line that is no JSON: no json")),
        ("[1]", LeveledLine(text="Line that is no JSON object: [1]")),
        ('{"msg":"x","caller":"odd","ts":"later"}', LeveledLine(text="x")),
        ('{"msg":"\\ud800"}', LeveledLine(text="<INVALID>")),
    ],
)
def test_etcd_lines(line: str, expected: LeveledLine) -> None:
    assert etcd(line) == expected


def test_an_etcd_line_that_was_cut_is_not_parsed() -> None:
    assert etcd('{"msg":"x', is_truncated=True).text == 'Line too long to parse: {"msg":"x...'


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode()))
def test_no_line_at_all_upsets_the_parsers(line: bytes) -> None:
    for parser in (KlogParser(), EtcdLogParser()):
        for is_truncated in (False, True):
            parsed = parser.parse(line, now=NOW, is_truncated=is_truncated)
            parsed.text.encode()


@given(
    st.dictionaries(
        st.sampled_from(["level", "ts", "caller", "msg", "x"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()),
    )
)
def test_no_object_at_all_upsets_the_etcd_parser(fields: dict[str, object]) -> None:
    parsed = etcd(json.dumps(fields))
    parsed.text.encode()
    parsed.file.encode()
    assert parsed.timestamp is None or parsed.timestamp.utcoffset() == timedelta(0)
