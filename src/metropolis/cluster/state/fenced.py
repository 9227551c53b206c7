# SPDX-License-Identifier: Apache-2.0
"""Reads and writes that happen only while their author leads.

Every transaction compares the creation revision of the election key. A deposed leader, however
late it notices, therefore neither answers from the store nor changes it. A write also names what
it depends on; when that has changed meanwhile it fails as a `ConflictError` and is tried again
from the reading on.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from metropolis.base.errors import AbortedError
from metropolis.consensus.store import (
    Compare,
    Delete,
    Get,
    KeyValue,
    Put,
    Store,
    Target,
)
from metropolis.rpc.status import NotLeaderError

T = TypeVar("T")

ATTEMPTS_MAX: Final = 8  # a conflict needs a writer between read and write: a millisecond


class ConflictError(AbortedError):
    """Something that the write depends on has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Part of a transaction: what must still hold, and what is written.

    Attributes:
        sentence: What the audit log says of it, without secrets; of several parts the first's.
        object: What it is about, for the audit log: a node id, a name. Empty: what the records
            that it writes, or the request, are about.
    """

    compares: Sequence[Compare] = ()
    operations: Sequence[Put | Delete] = ()
    sentence: str = ""
    object: str = ""

    def __add__(self, other: "Change") -> "Change":
        return Change(
            compares=(*self.compares, *other.compares),
            operations=(*self.operations, *other.operations),
            sentence=self.sentence or other.sentence,
            object=self.object or other.object,
        )


def is_absent(key: bytes) -> Compare:
    """Hold only while the key does not exist."""
    return Compare(key, Target.CREATE_REVISION, 0)


def is_unchanged(key: bytes, mod_revision: int) -> Compare:
    """Hold only while the key is as it was read; revision 0: while it does not exist."""
    return Compare(key, Target.MOD_REVISION, mod_revision)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What keys were at one revision."""

    revision: int
    ranges: Sequence[Sequence[KeyValue]]

    def one(self, index: int) -> KeyValue | None:
        """Return the key that the Get at `index` asked for."""
        found = self.ranges[index]
        return found[0] if found else None


class FencedStore:
    """The store as one leader may use it.

    Args:
        fence: Holds while the author leads; None for the bootstrap, when nobody else exists.
    """

    def __init__(self, store: Store, *, fence: Compare | None) -> None:
        self._store = store
        self._fence = fence

    async def read(self, *gets: Get) -> Snapshot:
        """Read keys, linearizably and at one revision. Without arguments: confirm leadership.

        Raises:
            NotLeaderError: leadership is lost.
            UnavailableError: the store does not answer.
        """
        result = await self._store.transact(self._guard(), gets)
        if not result.succeeded:
            raise lost_leadership()
        return Snapshot(revision=result.revision, ranges=result.ranges)

    async def page(self, *, after: bytes, revision: int, limit: int) -> Sequence[KeyValue]:
        """Read the next of all keys as of a revision, which never changes: so without the fence.

        Raises:
            OutOfRangeError: that revision is compacted.
            UnavailableError: the store does not answer.
        """
        found = await self._store.page(b"", after=after, revision=revision, limit=limit)
        return found.items

    async def write(self, change: Change) -> int:
        """Make a change whole or not at all; return the revision it has.

        Raises:
            ConflictError: something it depends on has changed; nothing was written.
            NotLeaderError: leadership is lost; nothing was written.
            UnavailableError: the store does not answer; it may have been written.
        """
        fence = self._fence
        result = await self._store.transact(
            (*self._guard(), *change.compares),
            change.operations,
            () if fence is None else (Get(fence.key),),
        )
        if result.succeeded:
            return result.revision
        if fence is not None:
            found = result.ranges[0]
            if not found or found[0].create_revision != fence.expected:
                raise lost_leadership()
        raise ConflictError(
            "a concurrent change came first", remedy="Retry: the change was not made."
        )

    def _guard(self) -> Sequence[Compare]:
        return () if self._fence is None else (self._fence,)


def lost_leadership() -> NotLeaderError:
    """Return what a deposed leader answers."""
    return NotLeaderError(
        "lost leadership", remedy="Try again: the new leader is elected within seconds."
    )


async def retry_conflicts(attempt: Callable[[], Awaitable[T]]) -> T:
    """Run read-decide-write again while somebody else's write comes in between.

    Raises:
        ConflictError: it still does after the last attempt.
    """
    for _ in range(ATTEMPTS_MAX - 1):
        try:
            return await attempt()
        except ConflictError:
            continue
    return await attempt()
