# SPDX-License-Identifier: Apache-2.0
"""Keys with revisions, as etcd keeps them. Pure: no time, no members, no I/O.

Source: etcd 3.5, server/mvcc and server/etcdserver/apply.go, as far as the API shows it.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, takewhile

from metropolis.base.errors import (
    InvalidArgumentError,
    NotFoundError,
    OutOfRangeError,
)
from metropolis.consensus.store import (
    Compare,
    Delete,
    Get,
    KeyValue,
    Operation,
    Put,
    RangeResult,
    Target,
    TransactionResult,
    WatchEvent,
)

OPERATIONS_MAX = 128  # per list of a transaction, as etcd's default
REQUEST_BYTES_MAX = 3 << 19  # 1.5 MiB, as etcd's default


class Keyspace:
    """All keys, their history since the last compaction, and which keys hang on which lease.

    Attributes:
        revision: Of the newest change. An empty store is at 1.
        compacted: History before this revision is gone; 0: nothing is.
    """

    def __init__(self) -> None:
        self.revision = 1
        self.compacted = 0
        self._items: dict[bytes, KeyValue] = {}
        self._order: list[bytes] = []
        self._changed: list[int] = []  # the revisions of `_changes`, ascending
        self._changes: list[tuple[WatchEvent, ...]] = []
        self._leases: dict[int, dict[bytes, None]] = {}
        self._base: dict[bytes, KeyValue] = {}  # the keys as of the compaction

    @property
    def value_bytes(self) -> int:
        """Size of the newest keys and values."""
        return sum(len(item.key) + len(item.value) for item in self._items.values())

    def get(self, key: bytes) -> KeyValue | None:
        """Return the newest value of a key."""
        return self._items.get(key)

    def scan(self, prefix: bytes, *, limit: int = 0, keys_only: bool = False) -> RangeResult:
        """Return what starts with `prefix`, in byte order."""
        items = [self._items[key] for key in self._keys(prefix)]
        if limit:
            del items[limit:]
        if keys_only:
            items = [_without_value(item) for item in items]
        return RangeResult(revision=self.revision, items=tuple(items))

    def page(self, prefix: bytes, *, after: bytes, revision: int, limit: int) -> RangeResult:
        """Return the next keys as of a past revision, in byte order.

        Raises:
            OutOfRangeError: that revision is compacted or in the future.
        """
        if not self.compacted <= revision <= self.revision:
            raise OutOfRangeError(
                "the revision is compacted or in the future", remedy="Read anew, from now on."
            )
        items = self._items if revision == self.revision else self._as_of(revision)
        order = self._order if items is self._items else sorted(items)
        start = max(bisect_left(order, prefix), bisect_right(order, after) if after else 0)
        keys = takewhile(lambda key: key.startswith(prefix), islice(order, start, start + limit))
        return RangeResult(revision=revision, items=tuple(items[key] for key in keys))

    def transact(
        self,
        compares: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation],
    ) -> TransactionResult:
        """Run a transaction.

        Raises:
            InvalidArgumentError: too many operations, an empty key, or a key written twice.
            NotFoundError: a put names a lease that does not exist.
        """
        _check_request(compares, success, failure)
        succeeded = all(self._holds(condition) for condition in compares)
        branch = success if succeeded else failure
        for step in branch:
            if isinstance(step, Put) and step.lease_id and step.lease_id not in self._leases:
                raise NotFoundError("the lease does not exist", remedy="Grant a new lease.")
        writes = _Writes(self)
        ranges = [answer for step in branch if (answer := writes.run(step)) is not None]
        writes.commit()
        return TransactionResult(succeeded=succeeded, revision=self.revision, ranges=tuple(ranges))

    def changes(self, prefix: bytes, *, start_revision: int, end_revision: int) -> list[WatchEvent]:
        """Return the changes under `prefix` within the revisions, both inclusive, in order."""
        events: list[WatchEvent] = []
        for index in range(bisect_left(self._changed, start_revision), len(self._changed)):
            if self._changed[index] > end_revision:
                break
            events += [event for event in self._changes[index] if event.key.startswith(prefix)]
        return events

    def compact(self, revision: int) -> None:
        """Forget the history before `revision`; an older one than the last does nothing.

        Raises:
            OutOfRangeError: the revision is in the future.
        """
        if revision > self.revision:
            raise OutOfRangeError(
                "the revision is in the future",
                remedy="Use a revision that the store has returned.",
            )
        if revision <= self.compacted:
            return
        self._base = self._as_of(revision)
        self.compacted = revision
        kept = bisect_left(self._changed, revision)
        del self._changed[:kept]
        del self._changes[:kept]

    def go_back(self, revision: int) -> None:
        """Forget everything after a revision, as if it had never been."""
        self._items = self._as_of(revision)
        self._order = sorted(self._items)
        kept = bisect_left(self._changed, revision + 1)
        del self._changed[kept:]
        del self._changes[kept:]
        self.revision = revision
        for hanging in self._leases.values():
            hanging.clear()
        for item in self._items.values():
            if item.lease_id in self._leases:
                self._leases[item.lease_id][item.key] = None

    def add_lease(self, lease_id: int) -> None:
        """Create a lease without keys."""
        assert lease_id not in self._leases, f"lease {lease_id:x} exists"
        self._leases[lease_id] = {}

    def end_lease(self, lease_id: int) -> None:
        """Delete a lease and, at one revision, its keys."""
        writes = _Writes(self)
        for key in sorted(self._leases.pop(lease_id, {})):
            writes.run(Delete(key))
        writes.commit()

    def _as_of(self, revision: int) -> dict[bytes, KeyValue]:
        items = dict(self._base)
        for event in self.changes(b"", start_revision=0, end_revision=revision):
            if event.is_deleted:
                items.pop(event.key, None)
            else:
                items[event.key] = _item(event)
        return items

    def _keys(self, prefix: bytes) -> Iterator[bytes]:
        for index in range(bisect_left(self._order, prefix), len(self._order)):
            key = self._order[index]
            if not key.startswith(prefix):
                return
            yield key

    def _holds(self, condition: Compare) -> bool:
        item = self._items.get(condition.key)
        match condition.target:
            case Target.VERSION:
                return condition.expected == (item.version if item else 0)
            case Target.CREATE_REVISION:
                return condition.expected == (item.create_revision if item else 0)
            case Target.MOD_REVISION:
                return condition.expected == (item.mod_revision if item else 0)
            case Target.VALUE:  # a missing key has no value, not even an empty one
                return item is not None and condition.expected == item.value

    def put(self, step: Put, revision: int) -> KeyValue:
        """Write a key at a revision, moving it to the put's lease."""
        old = self._items.get(step.key)
        if old is None:
            insort(self._order, step.key)
        else:
            self._detach(old)
        item = KeyValue(
            key=step.key,
            value=step.value,
            create_revision=old.create_revision if old else revision,
            mod_revision=revision,
            version=old.version + 1 if old else 1,
            lease_id=step.lease_id,
        )
        self._items[step.key] = item
        if step.lease_id:
            self._leases[step.lease_id][step.key] = None
        return item

    def delete(self, step: Delete) -> list[bytes]:
        """Delete and return the keys that existed, in byte order."""
        if step.is_prefix:
            keys = list(self._keys(step.key))
        else:
            keys = [step.key] if step.key in self._items else []
        for key in keys:
            self._detach(self._items.pop(key))
            del self._order[bisect_left(self._order, key)]
        return keys

    def record(self, revision: int, events: Iterable[WatchEvent]) -> None:
        """Append a revision to the history."""
        assert revision == self.revision + 1, "revisions have no gaps"
        self.revision = revision
        self._changed.append(revision)
        self._changes.append(tuple(events))

    def _detach(self, item: KeyValue) -> None:
        if item.lease_id in self._leases:
            self._leases[item.lease_id].pop(item.key, None)


class _Writes:
    """The operations of one transaction, which share one revision and see each other."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._revision = keyspace.revision + 1
        self._events: list[WatchEvent] = []

    def run(self, step: Operation) -> tuple[KeyValue, ...] | None:
        """Perform one operation; return what a `Get` found."""
        keyspace = self._keyspace
        match step:
            case Put():
                self._events.append(_event(keyspace.put(step, self._revision)))
                return None
            case Delete():
                self._events += [
                    WatchEvent(
                        key=key,
                        value=b"",
                        mod_revision=self._revision,
                        create_revision=0,
                        is_deleted=True,
                    )
                    for key in keyspace.delete(step)
                ]
                return None
            case Get(key, is_prefix):
                if is_prefix:
                    return tuple(keyspace.scan(key).items)
                found = keyspace.get(key)
                return () if found is None else (found,)

    def commit(self) -> None:
        """Make the revision count if anything happened in it."""
        if self._events:
            self._keyspace.record(self._revision, self._events)


def _event(item: KeyValue) -> WatchEvent:
    return WatchEvent(
        key=item.key,
        value=item.value,
        mod_revision=item.mod_revision,
        create_revision=item.create_revision,
        version=item.version,
        lease_id=item.lease_id,
    )


def _item(event: WatchEvent) -> KeyValue:
    return KeyValue(
        key=event.key,
        value=event.value,
        create_revision=event.create_revision,
        mod_revision=event.mod_revision,
        version=event.version,
        lease_id=event.lease_id,
    )


def _without_value(item: KeyValue) -> KeyValue:
    return KeyValue(
        key=item.key,
        value=b"",
        create_revision=item.create_revision,
        mod_revision=item.mod_revision,
        version=item.version,
        lease_id=item.lease_id,
    )


def _check_request(
    compares: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation]
) -> None:
    """Refuse what etcd refuses before it looks at any key; both branches must be well-formed."""
    if max(len(compares), len(success), len(failure)) > OPERATIONS_MAX:
        raise InvalidArgumentError(
            "the transaction has more than 128 operations", remedy="Split the transaction."
        )
    if any(not condition.key for condition in compares):
        raise InvalidArgumentError("the key is empty", remedy="Name a key.")
    size_bytes = 0
    for branch in (success, failure):
        _check_branch(branch)
        size_bytes += sum(len(step.key) for step in branch)
        size_bytes += sum(len(step.value) for step in branch if isinstance(step, Put))
    if size_bytes > REQUEST_BYTES_MAX:
        raise InvalidArgumentError(
            "the request is larger than the consensus store takes",
            remedy="Split it; the limit is 1.5 MiB.",
        )


def _check_branch(branch: Sequence[Operation]) -> None:
    written: set[bytes] = set()
    deletes = [step for step in branch if isinstance(step, Delete)]
    for step in branch:
        if not step.key and (isinstance(step, Put) or not step.is_prefix):
            raise InvalidArgumentError("the key is empty", remedy="Name a key.")
        if isinstance(step, Put):
            overlaps = any(_covers(delete, step.key) for delete in deletes)
            if step.key in written or overlaps:
                raise InvalidArgumentError(
                    "the transaction writes one key twice", remedy="Write each key once."
                )
            written.add(step.key)


def _covers(delete: Delete, key: bytes) -> bool:
    return key.startswith(delete.key) if delete.is_prefix else key == delete.key
