# SPDX-License-Identifier: Apache-2.0
"""What callers see of the consensus store: linearizable keys, transactions, leases, watches.

The shapes follow etcd's v3 API. Every method raises `UnavailableError` when the store has no
quorum or is not reached; a write that raised may or may not have taken effect.
"""

import enum
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyValue:
    """A key at one revision. `version` counts writes since creation, `lease_id` 0 means none."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int = 1
    lease_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeResult:
    """Keys in byte order, as of `revision`, the store's revision when it answered."""

    revision: int
    items: Sequence[KeyValue]


class Target(enum.Enum):
    """What a comparison looks at. A missing key has revisions and version 0."""

    VERSION = 0
    CREATE_REVISION = 1
    MOD_REVISION = 2
    VALUE = 3


@dataclass(frozen=True, slots=True)
class Compare:
    """One equality that a transaction depends on. `expected` is bytes for VALUE, else a number."""

    key: bytes
    target: Target
    expected: int | bytes


@dataclass(frozen=True, slots=True)
class Put:
    """Write one key, hung on a lease or (0) on none. A transaction writes a key at most once."""

    key: bytes
    value: bytes
    lease_id: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete one key, or with `is_prefix` everything that starts with it."""

    key: bytes
    is_prefix: bool = False


@dataclass(frozen=True, slots=True)
class Get:
    """Read one key, or with `is_prefix` everything that starts with it."""

    key: bytes
    is_prefix: bool = False


Operation = Put | Delete | Get


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionResult:
    """Outcome of a transaction.

    Attributes:
        revision: The store's revision after it; a write of this transaction has this mod_revision.
        ranges: Answers of the `Get` operations of the branch that ran, in their order.
    """

    succeeded: bool
    revision: int
    ranges: Sequence[Sequence[KeyValue]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchEvent:
    """One change. After a deletion only the key and `mod_revision` mean something."""

    key: bytes
    value: bytes
    mod_revision: int
    create_revision: int
    is_deleted: bool = False
    version: int = 0
    lease_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchBatch:
    """All changes of one or more revisions, complete up to and including `revision`.

    A batch without events is a progress report: nothing happened up to `revision`.
    """

    revision: int
    events: Sequence[WatchEvent]


class WatchCompactedError(Exception):
    """The start revision is gone; read the range again and watch from there.

    Attributes:
        compact_revision: The oldest revision that can still be watched.
    """

    def __init__(self, compact_revision: int) -> None:
        super().__init__(f"revisions before {compact_revision} are compacted")
        self.compact_revision = compact_revision


class Watch(Protocol):
    """A running watch. Survives nothing: on any error open a new one from the last revision."""

    async def receive(self) -> WatchBatch:
        """Return the next batch. Cancel-safe.

        Raises:
            WatchCompactedError: the start revision was compacted.
            UnavailableError: the connection or the store was lost.
        """
        ...

    async def request_progress(self) -> None:
        """Ask for a batch (possibly empty) that proves how far this watch has come."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatus:
    """What the local member says of itself."""

    revision: int
    raft_term: int
    raft_index: int
    member_id: int
    leader_id: int  # 0: no leader known
    is_learner: bool
    database_bytes: int
    errors: Sequence[str] = ()


class Store(Protocol):
    """The keys. One instance is shared by everything in a process."""

    async def get(self, key: bytes) -> KeyValue | None: ...

    async def range(self, prefix: bytes, *, limit: int = 0, keys_only: bool = False) -> RangeResult:
        """Read everything that starts with `prefix`, linearizably. `limit` 0 means all."""
        ...

    async def get_local(self, key: bytes) -> KeyValue | None:
        """Read one key as the local member has it: perhaps outdated, but also without quorum."""
        ...

    async def page(
        self, prefix: bytes, *, after: bytes = b"", revision: int, limit: int
    ) -> RangeResult:
        """Read the next keys that start with `prefix`, as of a past revision.

        Args:
            after: Only keys greater than this one; empty: from the first on.
            revision: One that the store has returned, and not compacted since.
            limit: How many keys at most; fewer come only at the end.

        Raises:
            OutOfRangeError: that revision is compacted or in the future.
        """
        ...

    async def transact(
        self,
        compares: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
    ) -> TransactionResult:
        """Run `success` if every comparison holds, else `failure`, as one atomic step."""
        ...

    def watch(self, prefix: bytes, *, start_revision: int) -> AbstractAsyncContextManager[Watch]:
        """Watch a prefix from `start_revision` on (inclusive); 0 means from now."""
        ...

    async def grant_lease(self, ttl_s: int) -> int:
        """Create a lease and return its id. Its keys vanish when it expires."""
        ...

    async def keep_lease_alive(self, lease_id: int) -> int:
        """Renew once; return the new time to live in seconds, 0 when the lease is gone."""
        ...

    async def revoke_lease(self, lease_id: int) -> None:
        """End a lease and delete its keys. Already gone is fine."""
        ...

    async def compact(self, revision: int) -> None:
        """Forget history before `revision`. Already compacted is fine."""
        ...

    async def scrub(self, revision: int) -> bool:
        """Leave nothing of the history before `revision` in the local member's database file.

        Compacts, waits until the local member has really dropped what is compacted, and rewrites
        the file, during which the member answers nobody. Of its write-ahead log nothing is
        rewritten: that drops old entries by itself, after a few snapshots.

        Returns:
            False when the history was compacted further before, so that nobody can tell whether
            the local member is done with it: write something, and scrub with that revision.
        """
        ...

    async def defragment(self) -> None:
        """Rewrite the local member's database file without the pages that are free.

        The member answers nobody meanwhile.
        """
        ...

    async def disarm(self) -> None:
        """End the local member's complaint of being full; it comes back if that is still so."""
        ...

    async def status(self) -> StoreStatus: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member of the consensus.

    Attributes:
        name: Node id once it started; before that derived from the peer URL's host.
        is_learner: Receives the log, has no vote yet.
        has_started: It reported its name to the cluster.
    """

    member_id: int
    name: str
    peer_urls: Sequence[str]
    is_learner: bool
    has_started: bool


class Membership(Protocol):
    """The members. etcd's list is the truth; node roles follow it."""

    async def members(self) -> Sequence[Member]: ...

    async def add_learner(self, peer_url: str) -> Member:
        """Add a non-voting member; at most one may be waiting for promotion.

        Raises:
            FailedPreconditionError: another learner is waiting.
            AlreadyExistsError: a member with that peer URL exists.
            UnavailableError: also when not every voter has been connected for 5 s, or a member
                with that peer URL was removed in this very second.
        """
        ...

    async def promote(self, member_id: int) -> None:
        """Give a learner its vote.

        Raises:
            FailedPreconditionError: it has not caught up, or quorum would be at risk.
            NotFoundError: there is no such member.
        """
        ...

    async def remove(self, member_id: int) -> None:
        """Remove a member.

        Raises:
            FailedPreconditionError: quorum would be lost.
            UnavailableError: also when too few voters have been connected for 5 s.
            NotFoundError: there is no such member.
        """
        ...

    async def update(self, member_id: int, peer_url: str) -> None: ...

    async def move_leader(self, member_id: int) -> None:
        """Hand raft leadership to another voting member; only the raft leader can."""
        ...
