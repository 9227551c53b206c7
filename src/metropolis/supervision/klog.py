# SPDX-License-Identifier: Apache-2.0
"""Lines as Kubernetes' klog prints them, parsed into leveled messages.

    I0228 13:30:45.996960    1234 reconciler.go:48] Starting

The format has no year. Source: k8s.io/klog, "Log line format".
"""

import re
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Protocol

from metropolis.supervision.entries import LeveledLine, Severity
from metropolis.supervision.log_text import text_of

FUTURE_MAX = timedelta(hours=1)  # how far another program's clock may be ahead of ours
YEAR_SLACK = timedelta(days=2)  # around new year, when "this year" is wrong

_LINE = re.compile(
    r"([IWEF])(\d\d)(\d\d)\s+(\d\d):(\d\d):(\d\d)(?:\.(\d+))?\s+\d+\s+([^:]+):(\d+)\]\s+(.+)",
    re.ASCII | re.DOTALL,
)
_LINE_NUMBER_DIGITS_MAX = 9
_SEVERITIES = {severity.letter: severity for severity in Severity}


class LineParser(Protocol):
    """Makes leveled messages of another program's output, one line at a time."""

    line_bytes_max: ClassVar[int]  # longer lines are cut before they are parsed

    def parse(self, line: bytes, *, now: datetime, is_truncated: bool) -> LeveledLine:
        """Understand one line; what cannot be understood is logged all the same."""
        ...


class KlogParser:
    """Parses klog lines. The process number is dropped; verbosity levels are all INFO."""

    line_bytes_max: ClassVar[int] = 1024

    def parse(self, line: bytes, *, now: datetime, is_truncated: bool) -> LeveledLine:
        """Understand one line; one that is no klog line becomes an ERROR that quotes it."""
        text = text_of(line) + ("..." if is_truncated else "")
        parsed = parse_klog(text, now=now)
        if parsed is None:
            return LeveledLine(text=f"Invalid klog line: {text}", severity=Severity.ERROR)
        return parsed


def parse_klog(text: str, *, now: datetime) -> LeveledLine | None:
    """Return the message in a klog line, or None if it is none."""
    match = _LINE.fullmatch(text)
    if match is None or len(match[9]) > _LINE_NUMBER_DIGITS_MAX:
        return None
    month, day, hour, minute, second = (int(match[i]) for i in range(2, 7))
    microsecond = int((match[7] or "0")[:6].ljust(6, "0"))
    timestamp = _with_year((month, day, hour, minute, second, microsecond), now=now)
    if timestamp is None:
        return None
    return LeveledLine(
        text=match[10],
        severity=_SEVERITIES[match[1]],
        file=match[8],
        line=int(match[9]),
        timestamp=timestamp,
    )


def _with_year(stamp: tuple[int, int, int, int, int, int], *, now: datetime) -> datetime | None:
    """Guess the year: this one, or the last one if that is what the turn of a year explains."""
    now = now.astimezone(UTC)
    guess = _date(now.year, stamp)
    if guess is not None and guess - now <= FUTURE_MAX:
        return guess
    previous = _date(now.year - 1, stamp)
    if previous is None or abs(now - previous) > YEAR_SLACK:
        return None
    return previous


def _date(year: int, stamp: tuple[int, int, int, int, int, int]) -> datetime | None:
    try:
        return datetime(year, *stamp, tzinfo=UTC)
    except ValueError:
        return None
