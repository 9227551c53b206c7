# SPDX-License-Identifier: Apache-2.0
"""What the log tree holds: leveled entries of our own, raw lines of other programs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple

UNKNOWN_FILE = "unknown"  # of entries that came from outside without a location


class Severity(IntEnum):
    """How much an entry matters, with the numbers of the wire format. FATAL ends a runnable."""

    INFO = 1
    WARNING = 2
    ERROR = 3
    FATAL = 4

    @property
    def letter(self) -> str:
        """The one letter that stands for it in text."""
        return self.name[0]


class LeveledEntry(NamedTuple):
    """A message from code that knows what it says.

    (A tuple, because reading a backlog makes tens of thousands of them at once.)

    Attributes:
        lines: The message; at least one line, none of them with a newline.
        timestamp: Aware and in UTC.
        file: Base name of the source file.
        line: Line in that file, from 1; 0 when not known.
    """

    dn: str
    lines: Sequence[str]
    timestamp: datetime
    severity: Severity
    file: str
    line: int


class RawEntry(NamedTuple):
    """One line that another program printed.

    Attributes:
        data: The line without its newline, perhaps truncated; not necessarily UTF-8.
        original_length: Bytes the line had before it was truncated.
    """

    dn: str
    data: bytes
    original_length: int

    @property
    def is_truncated(self) -> bool:
        """Whether the end of the line was dropped."""
        return self.original_length > len(self.data)


Entry = LeveledEntry | RawEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """Stands in a stream for entries that were dropped because the reader was slow."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeveledLine:
    """A leveled message parsed from another program's output.

    Attributes:
        timestamp: None stands for now.
    """

    text: str
    severity: Severity = Severity.INFO
    file: str = UNKNOWN_FILE
    line: int = 0
    timestamp: datetime | None = None
