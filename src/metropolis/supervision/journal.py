# SPDX-License-Identifier: Apache-2.0
"""The bounded memory of the log tree: one journal per DN, and one order over all of them.

Records are plain tuples, because a log entry must cost less than a microsecond; they become
`Entry` objects when somebody reads them. Two bounds hold after every append:

* a DN keeps at most `PER_DN_MAX` records, so one noisy runnable cannot silence the others;
* all DNs together keep at most so many records and bytes, whatever the number of runnables.

In both cases the oldest go first. `order` remembers which journal each record went to; a record
that fell to the quota of its DN leaves a *stale* reference there, which is skipped later:

    journals  a: [1 4 5]  b: [2 3]        order  a b b a a
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from sys import getsizeof

from metropolis.supervision.entries import Entry, LeveledEntry, RawEntry, Severity

PER_DN_MAX = 8192  # entries, leveled and raw together
ENTRIES_MAX = 65_536
BYTES_MAX = 16 * 1024 * 1024  # a fifth of what the core process may have resident
RECORD_OVERHEAD_BYTES = 256  # tuple, numbers, timestamp and references, measured on CPython 3.11
STALE_MAX = 32_768  # stale references tolerated before they are swept out

RAW = 0  # stands for the severity in records of raw lines

# sequence number, DN, severity, wall time, file, line, text: or, for a raw line,
# sequence number, DN, RAW, None, "", original length, data
Record = tuple[int, str, int, datetime | None, str, int, str | bytes]


class Journal:
    """The records of one DN, and who listens to them."""

    __slots__ = ("dn", "listeners", "records", "stale", "verbosity")

    def __init__(self, dn: str) -> None:
        self.dn = dn
        self.records: deque[Record] = deque()
        self.listeners: tuple[Callable[[Record], None], ...] = ()
        self.stale = 0  # records dropped by the quota whose references are still in the order
        self.verbosity = 0


class Journals:
    """Every journal, bounded together. Append and notify are one step: nothing runs between."""

    __slots__ = (
        "_bytes",
        "_bytes_max",
        "_entries_max",
        "_order",
        "_per_dn_max",
        "_sequence",
        "_stale",
    )

    def __init__(self, *, per_dn_max: int, entries_max: int, bytes_max: int) -> None:
        self._per_dn_max = per_dn_max
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._order: deque[Journal] = deque()
        self._stale = 0
        self._bytes = 0
        self._sequence = 0

    @property
    def entries(self) -> int:
        """Records kept now, over all DNs."""
        return len(self._order) - self._stale

    @property
    def size_bytes(self) -> int:
        """Memory these records are charged for."""
        return self._bytes

    def append(  # noqa: PLR0917  # keywords cost a tenth of an append
        self,
        journal: Journal,
        severity: int,
        wall: datetime | None,
        file: str,
        line: int,
        text: str | bytes,
    ) -> None:
        """Keep a record and hand it to every listener of its DN."""
        self._sequence = sequence = self._sequence + 1
        record = (sequence, journal.dn, severity, wall, file, line, text)
        records = journal.records
        if len(records) >= self._per_dn_max:
            self._bytes -= getsizeof(records.popleft()[6]) + RECORD_OVERHEAD_BYTES
            journal.stale += 1
            self._stale += 1
        records.append(record)
        order = self._order
        order.append(journal)
        self._bytes += getsizeof(text) + RECORD_OVERHEAD_BYTES
        if self._bytes > self._bytes_max or len(order) > self._entries_max:
            self._shrink()
        for listener in journal.listeners:
            listener(record)

    def _shrink(self) -> None:
        """Restore the bounds; amortised constant per append."""
        order = self._order
        while self._bytes > self._bytes_max or len(order) - self._stale > self._entries_max:
            journal = order.popleft()
            if journal.stale:
                journal.stale -= 1
                self._stale -= 1
            else:
                self._bytes -= getsizeof(journal.records.popleft()[6]) + RECORD_OVERHEAD_BYTES
        if self._stale > STALE_MAX:
            self._sweep()

    def _sweep(self) -> None:
        live: deque[Journal] = deque()
        for journal in self._order:
            if journal.stale:
                journal.stale -= 1
            else:
                live.append(journal)
        self._order = live
        self._stale = 0


def entry_of(record: Record) -> Entry:
    """Turn a record into what readers see."""
    _, dn, severity, wall, file, line, text = record
    if isinstance(text, bytes):
        return RawEntry(dn=dn, data=text, original_length=line)
    assert wall is not None, "only raw records have no time"
    return LeveledEntry(
        dn=dn,
        lines=tuple(text.strip("\r\n").split("\n")),
        timestamp=wall.astimezone(UTC),
        severity=Severity(severity),
        file=os.path.basename(file),  # noqa: PTH119  # a Path costs ten times as much
        line=line,
    )


def newest_first(
    journals: list[Journal], wants: Callable[[Record], bool], *, count: int | None
) -> list[Record]:
    """Return the newest `count` records that are wanted (None: all), oldest first."""

    def chosen(journal: Journal) -> Iterator[Record]:
        left = count
        for record in reversed(journal.records):
            if left is not None and left <= 0:
                return
            if wants(record):
                yield record
                left = None if left is None else left - 1

    records = sorted(record for journal in journals for record in chosen(journal))
    return records if count is None else records[max(0, len(records) - count) :]
