# SPDX-License-Identifier: Apache-2.0
"""The audit log in the store, and the store that no call can change without a record.

Whatever a call writes through `AuditedStore.write` carries its record in the same transaction, so
there is no change without a record and no record without its change. Who acts is known from the
call (`acting`), not from arguments: a handler cannot forget it, nor name somebody else.

    acting(who) ──▶ handler ──▶ write(change) ──▶ one transaction   fence, what the change compares,
                                                                    the head as it was;
                                                                    the change, record, new head

Only the leader writes, and it writes one record after the other, so it knows the head without
reading it. After a lost reply it does not, and reads it again. What members report about
themselves has no record and never waits here.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError
from typing_extensions import override

from metropolis.api.audit_pb2 import OUTCOME_DONE, OUTCOME_FAILED, Actor, Head, Record
from metropolis.base.errors import AbortedError, UnavailableError
from metropolis.cluster.planner.audit import (
    RECORDS_MAX,
    Acting,
    Growth,
    excess,
    grow,
    record_of,
)
from metropolis.cluster.planner.room import refusal
from metropolis.cluster.state import keys
from metropolis.cluster.state.fenced import (
    ATTEMPTS_MAX,
    Change,
    ConflictError,
    FencedStore,
    is_unchanged,
)
from metropolis.consensus.store import Compare, Delete, Get, KeyValue, Put, Store
from metropolis.formats.audit.chain import HASH_BYTES, hash_of
from metropolis.host import Clock
from metropolis.supervision import Value

WAIT_S_MAX: Final = 8.0  # for records before ours; callers wait 10 s
OPERATIONS_MAX: Final = 24  # of a change that old records may be dropped with

_acting: ContextVar[Acting | None] = ContextVar("acting", default=None)


@contextmanager
def acting(who: Acting | None) -> Generator[None, None, None]:
    """Record what the block writes as done by somebody; None: not at all."""
    token = _acting.set(who)
    try:
        yield
    finally:
        _acting.reset(token)


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """The head as stored. `note` says what was wrong with it."""

    head: Head
    mod_revision: int
    note: str = ""


class AuditedStore(FencedStore):
    """The store as one leader may use it, with the log of who changed what.

    Attributes:
        leader_id: Node id of the leader.
        news: Sequence of the newest record that this leader knows; 0 before it looked.
        is_disk_full: Of this leader; then users change only what makes room.
    """

    def __init__(
        self,
        store: Store,
        *,
        fence: Compare,
        clock: Clock,
        leader_id: str,
        records_max: int = RECORDS_MAX,
        is_disk_full: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(store, fence=fence)
        self.is_disk_full = is_disk_full
        self.news: Value[int] = Value(0)
        self._clock = clock
        self.leader_id = leader_id
        self._records_max = records_max
        self._lock = asyncio.Lock()
        self._end: _End | None = None

    @override
    async def write(self, change: Change) -> int:
        """Make a change, with its record if somebody acts; see `FencedStore.write`.

        Raises:
            ResourceExhaustedError: the disk is full, and the change would not help.
        """
        who = _acting.get()
        if who is None or not (change.operations or change.sentence):
            return await super().write(change)
        if self.is_disk_full() and (refused := refusal(who)) is not None:
            raise refused
        record = record_of(who, object_=change.object or _nodes_in(change), sentence=_said(change))
        record.outcome = OUTCOME_DONE
        return await self.append((self.dated(record),), change)

    async def append(self, records: Sequence[Record], change: Change | None = None) -> int:
        """Write records, and the change that they are about, whole or not at all.

        Raises:
            ConflictError: something the change depends on has changed; nothing was written.
            NotLeaderError: leadership is lost; nothing was written.
            UnavailableError: the store does not answer; it may have been written.
        """
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                await self._lock.acquire()
        except TimeoutError:
            raise UnavailableError(
                "changes before this one are still being written",
                remedy="Check that a majority of the consensus is up, then retry.",
            ) from None
        try:
            return await self._append(records, change or Change())
        finally:
            self._lock.release()

    async def _append(self, records: Sequence[Record], change: Change) -> int:
        for _ in range(ATTEMPTS_MAX):
            end, self._end = self._end or await self._read_end(), None  # until the reply is here
            growth = await self._growth(end, records, change)
            try:
                revision = await super().write(change + _grown(growth, end))
            except ConflictError:
                self._end = await self._read_end()
                if self._end.mod_revision == end.mod_revision:
                    raise  # not the log has changed, but what the change depends on
                continue
            self._end = _End(head=growth.head, mod_revision=revision)
            self.news.set(growth.head.sequence)
            return revision
        raise ConflictError("the audit log changes all the time", remedy="Retry.")

    async def _growth(self, end: _End, records: Sequence[Record], change: Change) -> Growth:
        if end.note:
            records = (self._finding(end.note), *records)
        dropped: Sequence[int] = ()
        if len(change.operations) <= OPERATIONS_MAX:
            dropped = excess(end.head, new=len(records), records_max=self._records_max)
        if not dropped:
            return grow(end.head, records, (), None)
        last = await self.read(Get(keys.audit_record(dropped[-1])))
        found = last.one(0)
        return grow(end.head, records, dropped, None if found is None else found.value)

    async def head(self) -> Head:
        """Return the end of the log, linearizably."""
        return (await self._read_end()).head

    async def walk(self, first: int, last: int) -> AsyncIterator[tuple[int, bytes]]:
        """Read records from one to another, as they are stored, page by page.

        Raises:
            AbortedError: the first were dropped meanwhile.
        """
        position = max(1, first)
        while position <= last:
            found, head = await self._page(position)
            if head is not None and head.first > position:
                raise AbortedError(
                    "the oldest records were dropped meanwhile", remedy="Read the log again."
                )
            for number, stored in found:
                if position <= number <= last:
                    yield number, stored
            position += keys.AUDIT_PAGE_RECORDS - position % keys.AUDIT_PAGE_RECORDS
            await asyncio.sleep(0)  # a full log takes a while, and others want their turn

    async def _page(self, position: int) -> tuple[Sequence[tuple[int, bytes]], Head | None]:
        snapshot = await self.read(
            Get(keys.audit_page(position), is_prefix=True), Get(keys.AUDIT_HEAD)
        )
        numbered = [(sequence_of(item.key), item.value) for item in snapshot.ranges[0]]
        head = snapshot.one(1)
        return (
            [(number, stored) for number, stored in numbered if number is not None],
            None if head is None else read_head(head),
        )

    async def _read_end(self) -> _End:
        found = (await self.read(Get(keys.AUDIT_HEAD))).one(0)
        head = None if found is None else read_head(found)
        revision = 0 if found is None else found.mod_revision
        if head is not None:
            return _End(head=head, mod_revision=revision)
        last = await self._last_record()
        if last is None and found is None:
            return _End(head=Head(), mod_revision=0)
        return _End(head=last or Head(), mod_revision=revision, note=_LOST_END)

    async def _last_record(self) -> Head | None:
        """Find the end of a log whose head is lost."""
        listed = await self._store.range(keys.AUDIT_RECORDS, keys_only=True)
        numbers = sorted(filter(None, (sequence_of(item.key) for item in listed.items)))
        if not numbers:
            return None
        found = (await self.read(Get(keys.audit_record(numbers[-1])))).one(0)
        if found is None:
            return None
        return Head(sequence=numbers[-1], hash=hash_of(found.value), first=numbers[0])

    def _finding(self, sentence: str) -> Record:
        return self.dated(
            Record(
                actor=Actor(kind=Actor.KIND_LEADER, identity=self.leader_id),
                method="Audit.Recover",
                outcome=OUTCOME_FAILED,
                code="data-loss",
                sentence=sentence,
            )
        )

    def dated(self, record: Record) -> Record:
        """Note in a record who writes it, and the present time."""
        record.leader = self.leader_id
        record.time.FromDatetime(self._clock.wall())
        return record


_LOST_END: Final = "the end of the log was missing or damaged; the log goes on after what was found"


def read_head(stored: KeyValue) -> Head | None:
    """Read the end of the log; None when it is damaged."""
    try:
        head = Head.FromString(stored.value)
    except DecodeError:
        return None
    is_sound = len(head.hash) == HASH_BYTES and 1 <= head.first <= head.sequence
    return head if is_sound else None


def sequence_of(key: bytes) -> int | None:
    """Return the sequence that a key names; None for a key that is no record's."""
    digits = key.removeprefix(keys.AUDIT_RECORDS)
    if not digits.isdigit():
        return None
    sequence = int(digits)
    return sequence if keys.audit_record(sequence) == key else None


def _grown(growth: Growth, end: _End) -> Change:
    return Change(
        compares=(is_unchanged(keys.AUDIT_HEAD, end.mod_revision),),
        operations=(
            *(Delete(keys.audit_record(sequence)) for sequence in growth.dropped),
            *(Put(keys.audit_record(sequence), stored) for sequence, stored in growth.added),
            Put(keys.AUDIT_HEAD, growth.head.SerializeToString(deterministic=True)),
        ),
    )


def _nodes_in(change: Change) -> str:
    """Return the nodes whose records a change writes."""
    written = (operation.key for operation in change.operations)
    nodes = dict.fromkeys(
        key.removeprefix(keys.NODES).decode("ascii", errors="replace")
        for key in written
        if key.startswith(keys.NODES)
    )
    return ", ".join(nodes)


def _said(change: Change) -> str:
    """Return the sentence of a change; one that says nothing is told by what it touches."""
    if change.sentence:
        return change.sentence
    puts = sum(isinstance(operation, Put) for operation in change.operations)
    return f"wrote {puts} and deleted {len(change.operations) - puts} keys"
