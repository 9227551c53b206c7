# SPDX-License-Identifier: Apache-2.0
"""The bounded history of changes: read from the database, shared among who watches here."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar, final

from metropolis.base.errors import OutOfRangeError
from metropolis.metal.store.interface import Change, Reader

ResultT = TypeVar("ResultT")

BATCH_REVISIONS: Final = 1000  # looked at in one go
TAIL_CHANGES_MAX: Final = 10_000  # remembered here, for watchers that are not far behind

_COUNTERS: Final = (
    "SELECT value FROM counter WHERE name IN ('change_floor', 'revision') ORDER BY name"
)
_CHANGES: Final = (
    "SELECT revision, kind, id, operation FROM change"
    " WHERE revision > $1 AND revision <= $2 ORDER BY revision, kind, id"
)


async def changes_after(reader: Reader, after: int) -> tuple[int, list[Change]]:
    """Return changes after a revision, and up to which revision these are all there were.

    Raises:
        OutOfRangeError: history does not reach back so far, or has never been so far.
    """
    (floor,), (newest,) = await reader.fetch(_COUNTERS)
    if not floor <= after <= newest:
        raise OutOfRangeError(
            f"changes are known from revision {floor} to {newest}, not from {after}",
            remedy="Read everything anew and watch from the revision of that.",
        )
    while after < newest:
        until = min(after + BATCH_REVISIONS, newest)
        rows = await reader.fetch(_CHANGES, after, until)
        if rows:
            return until, [
                Change(revision=revision, kind=kind, id=key, operation=operation)
                for revision, kind, key, operation in rows
            ]
        after = until
    return newest, []


@final
class Tail:
    """The end of history, read once for all who watch in this process.

    Args:
        load: `changes_after` on a fresh view.
        poll_s: Look without having been woken, for changes that nobody told of; None: never.
    """

    def __init__(
        self,
        load: Callable[[int], Awaitable[tuple[int, list[Change]]]],
        *,
        poll_s: float | None,
    ) -> None:
        self._load = load
        self._poll_s = poll_s
        self._changes: deque[Change] = deque()
        self._first = 0  # changes after this revision are in `_changes`, up to `_last`
        self._last = 0
        self._loading = asyncio.Lock()
        self._wakes = 0
        self._waiting: list[asyncio.Future[None]] = []

    def wake(self) -> None:
        """Something was committed: let watchers look."""
        self._wakes += 1
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def watch(
        self, after: int, listening: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[Sequence[Change]]:
        """Yield changes as they come.

        Args:
            listening: Returns once whatever is committed from now on will call `wake`.
        """
        while True:
            await listening()
            wakes = self._wakes
            until, changes = await self._after(after)
            after = until
            if changes:
                yield changes
            elif wakes == self._wakes:
                await self._wait()

    async def _after(self, after: int) -> tuple[int, list[Change]]:
        if not self._first <= after < self._last:
            async with self._loading:
                if not self._first <= after < self._last:
                    until, changes = await self._load(after)
                    self._remember(after, until, changes)
                    return until, changes
        return self._last, [change for change in self._changes if change.revision > after]

    def _remember(self, after: int, until: int, changes: Sequence[Change]) -> None:
        if after > self._last or until < self._last:
            if until < self._last:
                return  # a straggler reads what is older than all we remember
            self._changes.clear()
            self._first = after
        self._changes.extend(change for change in changes if change.revision > self._last)
        self._last = until
        while len(self._changes) > TAIL_CHANGES_MAX:
            self._first = self._changes[0].revision
            while self._changes and self._changes[0].revision == self._first:
                self._changes.popleft()

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s):
                    await waiter
        finally:
            with suppress(ValueError):
                self._waiting.remove(waiter)
