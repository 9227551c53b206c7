# SPDX-License-Identifier: Apache-2.0
"""A watch of one client on its member's history."""

import asyncio

from metropolis.base.errors import UnavailableError
from metropolis.consensus.memory.keyspace import Keyspace
from metropolis.consensus.memory.roster import MemberState
from metropolis.consensus.store import WatchBatch, WatchCompactedError, WatchEvent


class MemoryWatch:
    """See `metropolis.consensus.store.Watch`. Sees what its member has applied, no more."""

    def __init__(
        self, keyspace: Keyspace, member: MemberState, prefix: bytes, *, start_revision: int
    ) -> None:
        self.member_id = member.member_id
        self._keyspace = keyspace
        self._member = member
        self._prefix = prefix
        self._next_revision = start_revision or member.applied_revision + 1
        self._events: list[WatchEvent] = []
        self._has_progress_request = False
        self._error: UnavailableError | None = None
        self._news = asyncio.Event()

    def pull(self) -> None:
        """Take what the member has applied out of the history."""
        applied = self._member.applied_revision
        if self._keyspace.compacted <= self._next_revision <= applied:
            self._events += self._keyspace.changes(
                self._prefix, start_revision=self._next_revision, end_revision=applied
            )
            self._next_revision = applied + 1

    def notify(self) -> None:
        """Say that the member has applied something."""
        self._news.set()

    def fail(self, error: UnavailableError) -> None:
        """End the watch."""
        self._error = error
        self._news.set()

    async def receive(self) -> WatchBatch:
        while True:
            self._news.clear()
            if self._error is not None:
                raise self._error
            self.pull()
            if self._events:
                events, self._events = self._events, []
                return WatchBatch(revision=events[-1].mod_revision, events=events)
            if self._next_revision < self._keyspace.compacted:
                raise WatchCompactedError(self._keyspace.compacted)
            if self._has_progress_request:
                self._has_progress_request = False
                return WatchBatch(revision=self._member.applied_revision, events=())
            await self._news.wait()

    async def request_progress(self) -> None:
        if self._error is not None:
            raise self._error
        self._has_progress_request = True
        self._news.set()
