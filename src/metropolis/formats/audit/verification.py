# SPDX-License-Identifier: Apache-2.0
"""Whether a chain is what was written, told record by record, and if not where and why.

Needs one record at a time, so a log of any length is verified in constant memory.
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from metropolis.api.audit_pb2 import Checkpoint, Head
from metropolis.base.errors import DataLossError
from metropolis.formats.audit.chain import GENESIS, decode, hash_of

Stored = tuple[int, bytes]  # under which sequence, and the bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """Where the chain is broken, and why, as a sentence. Position 0: no record in particular."""

    position: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What verification found.

    Attributes:
        records: How many were looked at, up to the first that is wrong.
        first: Sequence of the oldest that is kept; 0 without any.
        last: Sequence of the newest that was looked at; 0 without any.
        broken: None when everything is as it was written.
    """

    records: int
    first: int
    last: int
    broken: Break | None


class Verification:
    """One walk along the chain, oldest record first.

    Args:
        anchors: Ends that the chain had at some time: what the store says is the end, what
            somebody kept elsewhere.
        end: The end of the chain, if nothing may come after it.
    """

    def __init__(self, anchors: Iterable[Head], *, end: Head | None = None) -> None:
        ends = [] if end is None else [end]
        self._anchors = sorted((*anchors, *ends), key=lambda anchor: anchor.sequence)
        self._end = end
        self._first = 0
        self._first_previous = GENESIS
        self._last = 0
        self._hash = GENESIS
        self._records = 0
        self._checkpoint: Checkpoint | None = None
        self._broken: Break | None = None
        self._is_doubted = False  # the newest does not fit the one before it: which was changed?

    def take(self, position: int, stored: bytes) -> Break | None:
        """Look at the next record; return what is wrong first, with this or an earlier one."""
        if self._broken is None and self._is_doubted:
            self._broken = self._settle(_previous_of(stored))
        if self._broken is None:
            reason = self._problem(position, stored)
            if reason is not None:
                self._broken = Break(position=position, reason=reason)
        return self._broken

    def finish(self) -> Verdict:
        """Look at what only the whole chain can show."""
        if self._broken is None and self._is_doubted:
            noted = (each.hash for each in self._anchors if each.sequence == self._last)
            self._broken = self._settle(next(noted, b""))
        if self._broken is None:
            self._broken = self._missing_checkpoint() or self._missed_anchor()
        return Verdict(
            records=self._records, first=self._first, last=self._last, broken=self._broken
        )

    def _problem(self, position: int, stored: bytes) -> str | None:
        if self._end is not None and position > self._end.sequence:
            return f"it comes after the end of the log, record {self._end.sequence}"
        if self._records and position != self._last + 1:
            if position <= self._last:
                return f"it comes after record {self._last}"
            missing = self._last + 1
            until = f"{missing}" if position == missing + 1 else f"{missing} to {position - 1}"
            return f"records are missing before it: {until}"
        try:
            record = decode(stored)
        except DataLossError as error:
            return str(error).partition(": ")[2]
        if record.sequence != position:
            return f"it says that it is record {record.sequence}"
        if not self._records:
            if position == 0:
                return "the first record is number 1"
            self._first, self._first_previous = position, record.previous
            self._hash = record.previous
            if position == 1 and record.previous != GENESIS:
                return "it is the first, but names a record before it"
            if self._anchored(position - 1) is not None:
                return f"its hash of record {position - 1} is another than the one that was noted"
        elif not hmac.compare_digest(record.previous, self._hash):
            self._is_doubted = True
        if record.HasField("checkpoint"):
            self._checkpoint = record.checkpoint
            if record.checkpoint.dropped_through >= position:
                return "it says that it was dropped itself"
        self._records += 1
        self._last, self._hash = position, hash_of(stored)
        return None if self._is_doubted else self._anchored(position)

    def _settle(self, named: bytes) -> Break:
        """Say which of two records that do not fit was changed: the older if the newer is sound.

        Args:
            named: What comes after the newer one says its hash is.
        """
        newer = self._last
        if hmac.compare_digest(named, self._hash):
            return Break(
                position=newer - 1,
                reason=f"it was changed: record {newer} names another hash for it",
            )
        return Break(
            position=newer,
            reason=f"it was changed: it fits neither record {newer - 1} nor what comes after it",
        )

    def _anchored(self, position: int) -> str | None:
        for anchor in self._anchors:
            if anchor.sequence == position and not hmac.compare_digest(anchor.hash, self._hash):
                return "its hash is another than the one that was noted for it"
        return None

    def _missing_checkpoint(self) -> Break | None:
        if self._first <= 1:
            return None
        dropped = self._checkpoint
        if dropped is not None and dropped.dropped_through == self._first - 1:
            if hmac.compare_digest(dropped.hash, self._first_previous):
                return None
            reason = "the record before it is not the one that was dropped last"
        elif dropped is None:
            reason = "older records are missing, and no checkpoint says that they were dropped"
        else:
            reason = f"only records up to {dropped.dropped_through} were dropped, but this is first"
        return Break(position=self._first, reason=reason)

    def _missed_anchor(self) -> Break | None:
        for anchor in self._anchors:
            if anchor.sequence > self._last:
                return Break(
                    position=anchor.sequence,
                    reason=f"it is missing: the chain ends at record {self._last}",
                )
            if anchor.sequence < self._first - 1:
                return Break(
                    position=anchor.sequence,
                    reason="it was dropped, so nothing can be said about it; "
                    f"the oldest record that is kept is {self._first}",
                )
        return None


def _previous_of(stored: bytes) -> bytes:
    try:
        return decode(stored).previous
    except DataLossError:
        return b""


def verify(
    records: Iterable[Stored], anchors: Iterable[Head] = (), *, end: Head | None = None
) -> Verdict:
    """Verify a whole chain; see `Verification`."""
    walk = Verification(anchors, end=end)
    for position, stored in records:
        if walk.take(position, stored) is not None:
            break
    return walk.finish()
