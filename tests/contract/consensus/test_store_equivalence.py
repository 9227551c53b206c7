# SPDX-License-Identifier: Apache-2.0
"""Random histories give the same answers in the real etcd and in its memory twin.

Revisions are compared relative to where a history starts, lease ids by the order of their grants.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metropolis.base.errors import MetropolisError
from metropolis.consensus.etcd.store import EtcdStore
from metropolis.consensus.memory.client import MemoryStore
from metropolis.consensus.memory.cluster import MemoryCluster
from metropolis.consensus.store import (
    Compare,
    Delete,
    Get,
    KeyValue,
    Operation,
    Put,
    Store,
    Target,
    WatchCompactedError,
    WatchEvent,
)
from metropolis.rpc.grpc import dial_unix

_HISTORIES = count()

NAMES = [b"a", b"a/b", b"a0", b"b", b"\xff", b"\xff/c"]


@dataclass(frozen=True)
class Transaction:
    """`lease` and expected revisions are small numbers that every world translates for itself."""

    compares: Sequence[Compare]
    success: Sequence[Operation]
    failure: Sequence[Operation]


@dataclass(frozen=True)
class Range:
    prefix: bytes
    limit: int
    keys_only: bool


@dataclass(frozen=True)
class Grant:
    pass


@dataclass(frozen=True)
class Revoke:
    lease: int


@dataclass(frozen=True)
class Watch:
    prefix: bytes
    revisions_back: int


@dataclass(frozen=True)
class Compact:
    revisions_back: int


Step = Transaction | Range | Grant | Revoke | Watch | Compact

names = st.sampled_from(NAMES)
prefixes = st.sampled_from([b"", b"a", b"a/", b"b", b"\xff"])
values = st.sampled_from([b"", b"1", b"2"])
operations = st.one_of(
    st.builds(Put, names, values, st.integers(0, 3)),
    st.builds(Delete, names, st.booleans()),
    st.builds(Get, names, st.booleans()),
)
compares = st.one_of(
    st.builds(Compare, names, st.just(Target.VALUE), values),
    st.builds(
        Compare,
        names,
        st.sampled_from([Target.VERSION, Target.CREATE_REVISION, Target.MOD_REVISION]),
        st.integers(0, 6),
    ),
)
branches = st.lists(operations, max_size=4)
steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(Transaction, st.lists(compares, max_size=2), branches, branches),
    st.builds(Range, prefixes, st.integers(0, 3), st.booleans()),
    st.builds(Grant),
    st.builds(Revoke, st.integers(1, 3)),
    st.builds(Watch, prefixes, st.integers(0, 8)),
    st.builds(Compact, st.integers(0, 4)),
)


class World:
    """Performs steps on one store and tells, in comparable terms, what happened."""

    def __init__(self, store: Store, root: bytes) -> None:
        self.store = store
        self.root = root
        self.base = 0
        self.leases: list[int] = [0]

    async def begin(self) -> None:
        self.base = (await self.store.transact([], [Put(self.root + b"begin", b"")])).revision

    async def perform(self, step: Step) -> object:
        try:
            match step:
                case Transaction():
                    return await self._transact(step)
                case Range(prefix, limit, keys_only):
                    found = await self.store.range(
                        self.root + prefix, limit=limit, keys_only=keys_only
                    )
                    return found.revision - self.base, [self._item(item) for item in found.items]
                case Grant():
                    self.leases.append(await self.store.grant_lease(600))
                    return None
                case Revoke(lease):
                    await self.store.revoke_lease(self._lease_id(lease))
                    return None
                case Watch(prefix, revisions_back):
                    return await self._watch(prefix, revisions_back)
                case Compact(revisions_back):
                    now = (await self.store.range(self.root)).revision
                    await self.store.compact(max(self.base, now - revisions_back))
                    return None
        except MetropolisError as error:
            return type(error).__name__, str(error)
        except WatchCompactedError as error:
            return "compacted", error.compact_revision - self.base

    async def _transact(self, step: Transaction) -> object:
        result = await self.store.transact(
            [self._compare(condition) for condition in step.compares],
            [self._operation(operation) for operation in step.success],
            [self._operation(operation) for operation in step.failure],
        )
        return (
            result.succeeded,
            result.revision - self.base,
            [[self._item(item) for item in found] for found in result.ranges],
        )

    async def _watch(self, prefix: bytes, revisions_back: int) -> object:
        now = (await self.store.range(self.root)).revision
        start = max(self.base + 1, now - revisions_back)
        # Ends with an event of its own: only then both worlds surely have sent everything.
        end = (await self.store.transact([], [Put(self.root + prefix + b"~end", b"")])).revision
        events: list[WatchEvent] = []
        async with self.store.watch(self.root + prefix, start_revision=start) as watch:
            while True:
                batch = await watch.receive()
                events += batch.events
                if batch.revision >= end:
                    return [self._event(event) for event in events]

    def _lease_id(self, lease: int) -> int:
        return self.leases[lease] if lease < len(self.leases) else 123_456_789

    def _compare(self, condition: Compare) -> Compare:
        expected = condition.expected
        if condition.target in {Target.CREATE_REVISION, Target.MOD_REVISION}:
            assert isinstance(expected, int)
            expected = expected and expected + self.base
        return Compare(self.root + condition.key, condition.target, expected)

    def _operation(self, operation: Operation) -> Operation:
        match operation:
            case Put(key, value, lease):
                return Put(self.root + key, value, self._lease_id(lease))
            case Delete(key, is_prefix):
                return Delete(self.root + key, is_prefix)
            case Get(key, is_prefix):
                return Get(self.root + key, is_prefix)

    def _item(self, item: KeyValue) -> object:
        return (
            item.key.removeprefix(self.root),
            item.value,
            item.create_revision - self.base,
            item.mod_revision - self.base,
            item.version,
            self.leases.index(item.lease_id),
        )

    def _event(self, event: WatchEvent) -> object:
        return (
            event.key.removeprefix(self.root),
            event.value,
            event.mod_revision - self.base,
            event.create_revision and event.create_revision - self.base,
            event.is_deleted,
            event.version,
            self.leases.index(event.lease_id),
        )


async def tell(store: Store, root: bytes, history: Sequence[Step]) -> list[object]:
    world = World(store, root)
    await world.begin()
    return [await world.perform(step) for step in history]


def tell_in_memory(root: bytes, history: Sequence[Step]) -> list[object]:
    async def main() -> list[object]:
        cluster = MemoryCluster()
        member_id = cluster.bootstrap(name="only", peer_url="unix://only.peer:0")
        return await tell(MemoryStore(cluster, member_id), root, history)

    return asyncio.run(main())


def tell_in_etcd(
    socket: str, root: bytes, history: Sequence[Step], wait: Callable[[Store], Awaitable[None]]
) -> list[object]:
    async def main() -> list[object]:
        channel = dial_unix(socket)
        try:
            store = EtcdStore(channel)
            await wait(store)
            return await tell(store, root, history)
        finally:
            await channel.close()

    return asyncio.run(main())


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=st.lists(steps, min_size=1, max_size=25))
def test_a_random_history_reads_the_same_in_both_worlds(
    etcd_socket: str, wait_answers: Callable[[Store], Awaitable[None]], history: list[Step]
) -> None:
    root = f"/history-{next(_HISTORIES)}/".encode()
    assert tell_in_memory(root, history) == tell_in_etcd(etcd_socket, root, history, wait_answers)
