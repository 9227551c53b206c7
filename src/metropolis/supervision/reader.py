# SPDX-License-Identifier: Apache-2.0
"""Reading the log tree: what already happened, then what happens, through one set of filters."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from metropolis.base.errors import InvalidArgumentError, UnavailableError
from metropolis.supervision.entries import Entry, Missed, Severity
from metropolis.supervision.journal import RAW, Record, entry_of

QUEUE_MAX = 128  # entries a reader may lag behind before it loses some
CHUNK_MAX = 2000  # backlog entries handed out at a time: a few milliseconds of work


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Which entries a reader gets.

    Attributes:
        with_children: The DN and everything below it, instead of exactly the DN.
        backlog: How many of the newest matching entries to start with; None for all.
        stream: Whether entries that are logged later are delivered too.
        minimum_severity: Drops leveled entries below it, and every raw entry.
    """

    with_children: bool = False
    backlog: int | None = 0
    stream: bool = False
    only_raw: bool = False
    only_leveled: bool = False
    minimum_severity: Severity | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot mean anything.

        Raises:
            InvalidArgumentError: the options contradict each other.
        """
        if self.only_raw and self.only_leveled:
            raise InvalidArgumentError(
                "cannot return only raw and only leveled entries",
                remedy="Ask for one of the two kinds, or for neither to get both.",
            )
        if self.backlog is not None and self.backlog < 0:
            raise InvalidArgumentError(
                "the number of backlog entries is negative", remedy="Ask for 0 or more."
            )

    def wants(self, record: Record) -> bool:
        """Tell whether a record of a matching DN passes the filters."""
        severity = record[2]
        if severity == RAW:
            return not self.only_leveled and self.minimum_severity is None
        return not self.only_raw and severity >= (self.minimum_severity or 0)


class LogReaderClosedError(UnavailableError):
    """The reader or the whole log tree was closed while somebody waited for an entry."""


class LogReader:
    """One reader: a backlog fixed at the start, then a stream. Close it when done.

    The stream holds at most `QUEUE_MAX` entries. Entries that do not fit are counted, and the
    count is delivered in their place as `Missed`.
    """

    def __init__(
        self, options: ReadOptions, backlog: list[Record], *, closed: Callable[["LogReader"], None]
    ) -> None:
        self.options = options
        self._backlog = backlog
        self._queue: deque[Record | Missed] = deque()
        self._queued = 0  # entries in the queue, not counting markers
        self._missed = 0  # entries dropped since the last one that was queued
        self._waiting: asyncio.Future[None] | None = None
        self._on_close = closed
        self._is_open = True

    @property
    def backlog(self) -> list[Entry]:
        """The entries that matched when the reader was opened, oldest first."""
        return [entry_of(record) for record in self._backlog]

    def backlog_chunks(self, size: int = CHUNK_MAX) -> Iterator[list[Entry]]:
        """Yield the backlog in pieces, so that a long one does not stop the event loop."""
        for start in range(0, len(self._backlog), size):
            yield [entry_of(record) for record in self._backlog[start : start + size]]

    def offer(self, record: Record) -> None:
        """Take a record of a DN this reader follows. Called by the log tree only."""
        if not self.options.wants(record):
            return
        if self._queued >= QUEUE_MAX:
            self._missed += 1
            return
        if self._missed:
            self._queue.append(Missed(count=self._missed))
            self._missed = 0
        self._queue.append(record)
        self._queued += 1
        if self._waiting is not None:
            self._wake()

    async def receive(self) -> Entry | Missed:
        """Wait for the next entry that matches. Cancel-safe; one caller at a time.

        Raises:
            LogReaderClosedError: the reader or the log tree was closed.
        """
        assert self.options.stream, "this reader was opened without a stream"
        while True:
            if self._queue:
                item = self._queue.popleft()
                if isinstance(item, Missed):
                    return item
                self._queued -= 1
                return entry_of(item)
            if self._missed:
                missed, self._missed = Missed(count=self._missed), 0
                return missed
            if not self._is_open:
                raise LogReaderClosedError("the log was closed", remedy="Open the log again.")
            assert self._waiting is None, "two callers wait on one log reader"
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None

    def close(self) -> None:
        """Stop the stream; whoever waits for it is told. Closing twice is fine."""
        if self._is_open:
            self._is_open = False
            self._on_close(self)
            self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
