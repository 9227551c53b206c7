# SPDX-License-Identifier: Apache-2.0
"""The bounded memory of the log tree: one journal per DN, bounded one by one and together.

Records are plain tuples, because a log entry must cost less than a microsecond; they become
`Entry` objects when somebody reads them. Two bounds hold after every append:

* a DN keeps at most `PER_DN_MAX` records, so one noisy runnable cannot silence the others;
* all DNs together keep at most so many records and bytes, whatever the number of runnables.

In both cases the oldest go first. Sequence numbers give the order over all DNs:

    a: [1 4 5]   b: [2 3]    the next to go: 1, then 2
"""

import heapq
import os
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from types import CodeType

from metropolis.supervision.entries import Entry, LeveledEntry, RawEntry, Severity

PER_DN_MAX = 8192  # entries, leveled and raw together
ENTRIES_MAX = 65_536  # each costs some 250 bytes beside its text
BYTES_MAX = 16 * 1024 * 1024  # of text: a fifth of what the core process may have resident
EVICTED_MIN = 64  # one in so many entries and bytes is dropped at a time, when all DNs are full
PLACES_MAX = 4096  # log calls whose place in the source is remembered

RAW = 0  # stands for the severity in records of raw lines

# sequence number, DN, severity, wall time, file, line, text, where instead of file and line there
# may be a code object and the index of an instruction: finding the line takes long. For a raw line:
# sequence number, DN, RAW, None, "", original length, data
Record = tuple[int, str, int, datetime | None, str | CodeType, int, str | bytes]


class Journal:
    """The records of one DN, and who listens to them."""

    __slots__ = ("dn", "listeners", "records", "verbosity")

    def __init__(self, dn: str) -> None:
        self.dn = dn
        self.records: deque[Record] = deque()
        self.listeners: tuple[Callable[[Record], None], ...] = ()
        self.verbosity = 0


class Journals:
    """Every journal, bounded together. Append and notify are one step: nothing runs between."""

    __slots__ = (
        "_bytes_max",
        "_entries_max",
        "_per_dn_max",
        "_sequence",
        "by_dn",
        "entries",
        "size_bytes",
    )

    def __init__(self, *, per_dn_max: int, entries_max: int, bytes_max: int) -> None:
        self._per_dn_max = per_dn_max
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._sequence = 0
        self.by_dn: dict[str, Journal] = {}
        self.entries = 0  # kept now, over all DNs
        self.size_bytes = 0  # of their texts

    def append(  # noqa: PLR0917  # keywords cost a tenth of an append
        self,
        journal: Journal,
        severity: int,
        wall: datetime | None,
        place: str | CodeType,
        line: int,
        text: str | bytes,
    ) -> None:
        """Keep a record and hand it to every listener of its DN."""
        self._sequence = sequence = self._sequence + 1
        record = (sequence, journal.dn, severity, wall, place, line, text)
        records = journal.records
        if len(records) < self._per_dn_max:
            self.entries += 1
            self.size_bytes += text.__sizeof__()
        else:
            self.size_bytes += text.__sizeof__() - records.popleft()[6].__sizeof__()
        records.append(record)
        if self.size_bytes > self._bytes_max or self.entries > self._entries_max:
            self._evict()
        for listener in journal.listeners:
            listener(record)

    def _evict(self) -> None:
        """Drop the oldest records of all DNs, a few more than needed, so that it happens rarely."""
        entries_max = self._entries_max - self._entries_max // EVICTED_MIN
        bytes_max = self._bytes_max - self._bytes_max // EVICTED_MIN
        heads = [(j.records[0][0], j.dn) for j in self.by_dn.values() if j.records]
        heapq.heapify(heads)
        while self.entries > entries_max or self.size_bytes > bytes_max:
            _, dn = heads[0]
            records = self.by_dn[dn].records
            self.size_bytes -= records.popleft()[6].__sizeof__()
            self.entries -= 1
            if records:
                heapq.heapreplace(heads, (records[0][0], dn))
            else:
                heapq.heappop(heads)


_SEVERITIES = {int(severity): severity for severity in Severity}
# (identity of a code object, instruction) -> (the object, kept so that the identity stays its own,
# base name of its file, line)
_places: dict[tuple[int, int], tuple[CodeType, str, int]] = {}


def entry_of(record: Record) -> Entry:
    """Turn a record into what readers see."""
    _, dn, severity, wall, place, line, text = record
    if isinstance(text, bytes):
        return RawEntry(dn, text, line)
    assert wall is not None, "only raw records have no time"
    if isinstance(place, str):
        file = os.path.basename(place)  # noqa: PTH119  # a Path costs ten times as much
    else:
        _, file, line = _places.get((id(place), line)) or _find(place, line)
    lines = tuple(text.strip("\r\n").split("\n"))
    return LeveledEntry(dn, lines, wall, _SEVERITIES[severity], file, line)


def _find(code: CodeType, instruction: int) -> tuple[CodeType, str, int]:
    """Find the source line of an instruction, and remember it."""
    positions = next(islice(code.co_positions(), instruction // 2, None))  # two bytes each
    file = os.path.basename(code.co_filename)  # noqa: PTH119  # as above
    if len(_places) >= PLACES_MAX:
        _places.clear()
    place = _places[id(code), instruction] = (code, file, positions[0] or 0)
    return place


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
