# SPDX-License-Identifier: Apache-2.0
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest
from typing_extensions import override

from metropolis.base.errors import MetropolisError
from metropolis.consensus.memory.client import MemoryStore
from metropolis.consensus.memory.cluster import MemoryCluster
from metropolis.consensus.memory.faults import Faults
from metropolis.consensus.memory.watch import MemoryWatch
from metropolis.consensus.mirror import Change, Mirror, MirrorWatcher
from metropolis.consensus.store import Delete, KeyValue, Operation, Put, WatchBatch
from metropolis.sim import simulate

PREFIX = b"/nodes/"
SEEDS = range(60)
ELECTION_S = 3.1  # longer than any that these tests have


def trio(faults: Faults | None = None) -> tuple[MemoryCluster, list[int]]:
    cluster = MemoryCluster(faults=faults)
    ids = [cluster.bootstrap(name="m0", peer_url="https://m0:7834")]
    for name in ("m1", "m2"):
        ids.append(cluster.roster.add(f"https://{name}:7834", is_learner=False).member_id)
        cluster.start_member(ids[-1], name=name)
    return cluster, ids


async def write(store: MemoryStore, *operations: Operation) -> int:
    return (await store.transact([], operations)).revision


def run_with_mirror(
    body: Callable[[MemoryCluster, list[int], Mirror], Awaitable[None]],
    *,
    faults: Faults | None = None,
    seed: int = 1,
) -> None:
    """Run `body` beside a mirror whose store is the first member's."""

    async def main() -> None:
        cluster, ids = trio(faults)
        mirror = Mirror(MemoryStore(cluster, ids[0]), PREFIX)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(mirror.run())
            await body(cluster, ids, mirror)
            running.cancel()

    simulate(main, seed=seed)


def keys_of(changes: list[Change]) -> dict[bytes, bytes | None]:
    return {
        change.key.removeprefix(PREFIX): None if change.item is None else change.item.value
        for change in changes
    }


def test_a_mirror_holds_what_was_there_and_follows_what_comes() -> None:
    async def body(cluster: MemoryCluster, ids: list[int], mirror: Mirror) -> None:
        store = MemoryStore(cluster, ids[1])
        lease_id = await store.grant_lease(60)
        for name in (b"b", b"\xff", b"a", b"c"):
            await write(store, Put(PREFIX + name, b"1"))
        await write(store, Put(b"/beside", b"1"))
        await mirror.wait_loaded()
        await write(store, Put(PREFIX + b"a", b"2", lease_id))
        await write(store, Put(PREFIX + b"d", b"1"))
        await mirror.wait_revision(await write(store, Delete(PREFIX + b"b")))
        expected = (await store.range(PREFIX)).items
        assert tuple(mirror.items.values()) == expected
        assert list(mirror.items) == [PREFIX + name for name in (b"a", b"c", b"d", b"\xff")]
        assert [item.key for item in mirror.items.under(PREFIX + b"c")] == [PREFIX + b"c"]
        assert mirror.items.get(PREFIX + b"b") is None

    run_with_mirror(body)


def test_waiting_for_a_revision_does_not_wait_for_the_next_write() -> None:
    async def body(cluster: MemoryCluster, ids: list[int], mirror: Mirror) -> None:
        store = MemoryStore(cluster, ids[1])
        await mirror.wait_loaded()
        before_s = asyncio.get_running_loop().time()
        for _number in range(3):
            revision = await write(store, Put(b"/elsewhere", b""))
            await mirror.wait_revision(revision)
            assert mirror.revision >= revision
        assert asyncio.get_running_loop().time() == before_s

    run_with_mirror(body)


class BackwardStore(MemoryStore):
    """A member that was restored from an old copy says how far it is: less than was read."""

    @override
    @asynccontextmanager
    async def watch(self, prefix: bytes, *, start_revision: int) -> AsyncIterator[MemoryWatch]:
        async with super().watch(prefix, start_revision=start_revision) as watch:
            receive = watch.receive

            async def receive_old_progress() -> WatchBatch:
                watch.receive = receive  # type: ignore[method-assign]
                return WatchBatch(revision=1, events=())

            watch.receive = receive_old_progress  # type: ignore[method-assign]
            yield watch


def test_the_revision_never_goes_back() -> None:
    async def main() -> None:
        cluster, ids = trio()
        revision = await write(MemoryStore(cluster, ids[0]), Put(PREFIX + b"a", b""))
        mirror = Mirror(BackwardStore(cluster, ids[0]), PREFIX)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(mirror.run())
            await mirror.wait_loaded()
            await asyncio.sleep(1)
            assert mirror.revision == revision
            running.cancel()

    simulate(main, seed=1)


class CountingStore(MemoryStore):
    """Counts the questions that a mirror asks."""

    questions = 0

    @override
    @asynccontextmanager
    async def watch(self, prefix: bytes, *, start_revision: int) -> AsyncIterator[MemoryWatch]:
        async with super().watch(prefix, start_revision=start_revision) as watch:
            ask = watch.request_progress

            async def count_and_ask() -> None:
                self.questions += 1
                await ask()

            watch.request_progress = count_and_ask  # type: ignore[method-assign]
            yield watch


def test_many_waiters_share_one_question() -> None:
    async def main() -> None:
        cluster, ids = trio()
        store = CountingStore(cluster, ids[0])
        mirror = Mirror(store, PREFIX)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(mirror.run())
            await mirror.wait_loaded()
            revision = await write(store, Put(b"/elsewhere", b""))
            await asyncio.gather(*(mirror.wait_revision(revision) for _ in range(100)))
            running.cancel()
        assert store.questions == 1

    simulate(main, seed=1)


def test_a_watcher_gets_everything_first_and_then_the_newest_of_each_key() -> None:
    async def body(cluster: MemoryCluster, ids: list[int], mirror: Mirror) -> None:
        store = MemoryStore(cluster, ids[1])
        await write(store, Put(PREFIX + b"a", b"1"), Put(PREFIX + b"b", b"1"))
        slow, fast = mirror.watch(), mirror.watch()
        assert keys_of(await slow.receive()) == {b"a": b"1", b"b": b"1"}
        await fast.receive()
        for number in range(2, 5):
            await write(store, Put(PREFIX + b"a", b"%d" % number))
            assert keys_of(await fast.receive()) == {b"a": b"%d" % number}
        await write(store, Put(PREFIX + b"fleeting", b""))
        await write(store, Delete(PREFIX + b"fleeting"))
        await mirror.wait_revision(await write(store, Delete(PREFIX + b"b")))
        assert keys_of(await slow.receive()) == {b"a": b"4", b"b": None}

    run_with_mirror(body)


def test_the_first_answer_may_be_that_there_is_nothing() -> None:
    async def body(_: MemoryCluster, __: list[int], mirror: Mirror) -> None:
        assert await mirror.watch().receive() == []

    run_with_mirror(body)


def test_a_watcher_of_a_prefix_hears_of_nothing_else() -> None:
    async def body(cluster: MemoryCluster, ids: list[int], mirror: Mirror) -> None:
        store = MemoryStore(cluster, ids[1])
        await write(store, Put(PREFIX + b"a", b"1"), Put(PREFIX + b"b", b"1"))
        watcher = mirror.watch(PREFIX + b"b")
        assert keys_of(await watcher.receive()) == {b"b": b"1"}
        await write(store, Put(PREFIX + b"a", b"2"))
        await write(store, Put(PREFIX + b"b", b"2"))
        assert keys_of(await watcher.receive()) == {b"b": b"2"}

    run_with_mirror(body)


def test_a_watcher_that_never_reads_keeps_no_marks_of_keys_that_came_and_went() -> None:
    async def body(cluster: MemoryCluster, ids: list[int], mirror: Mirror) -> None:
        store = MemoryStore(cluster, ids[1])
        lazy = mirror.watch()
        await lazy.receive()
        revision = 0
        for number in range(100):
            await write(store, Put(PREFIX + b"%d" % number, b""))
            revision = await write(store, Delete(PREFIX + b"%d" % number))
        await mirror.wait_revision(revision)
        assert len(lazy._dirty) == 0

    run_with_mirror(body)


def test_a_key_that_went_and_came_back_and_went_is_a_deletion_to_whoever_knew_it() -> None:
    async def body(cluster: MemoryCluster, ids: list[int], mirror: Mirror) -> None:
        store = MemoryStore(cluster, ids[1])
        await write(store, Put(PREFIX + b"a", b"1"))
        revision = await write(store, Put(PREFIX + b"b", b"1"))
        await mirror.wait_revision(revision)
        watchers = [mirror.watch(), mirror.watch(PREFIX + b"a")]
        for watcher in watchers:
            await watcher.receive()
        for operation in (
            Delete(PREFIX + b"a"),
            Put(PREFIX + b"a", b"2"),
            Delete(PREFIX + b"a"),
            Put(PREFIX + b"new", b""),
            Delete(PREFIX + b"new"),
            Put(PREFIX + b"c", b"3"),
        ):
            revision = await write(store, operation)
        await mirror.wait_revision(revision)
        assert keys_of(await watchers[0].receive()) == {b"a": None, b"c": b"3"}
        assert keys_of(await watchers[1].receive()) == {b"a": None}

    run_with_mirror(body)


def test_marks_cost_what_changed_and_nothing_for_what_exists() -> None:
    async def body(cluster: MemoryCluster, ids: list[int], mirror: Mirror) -> None:
        store = MemoryStore(cluster, ids[1])
        revision = 0
        for number in range(50):
            revision = await write(store, Put(PREFIX + b"%d" % number, b""))
        await mirror.wait_revision(revision)
        all_keys, one_key = mirror.watch(), mirror.watch(PREFIX + b"7")
        assert len(await all_keys.receive()) == 50
        await one_key.receive()
        await mirror.wait_revision(await write(store, Put(PREFIX + b"8", b"new")))
        assert (len(all_keys._dirty), len(all_keys._born)) == (1, 0)
        assert not one_key._dirty

    run_with_mirror(body)


def test_a_watcher_that_is_closed_or_forgotten_costs_nothing() -> None:
    async def body(_: MemoryCluster, __: list[int], mirror: Mirror) -> None:
        with mirror.watch():
            forgotten = mirror.watch()
            assert sum(map(len, mirror._watchers.values())) == 2
            del forgotten
            assert sum(map(len, mirror._watchers.values())) == 1
        assert not mirror._watchers
        assert not mirror._lengths

    run_with_mirror(body)


def test_after_a_compaction_watchers_see_the_difference_deletions_included() -> None:
    async def body(cluster: MemoryCluster, ids: list[int], mirror: Mirror) -> None:
        store = MemoryStore(cluster, ids[1])
        for name in (b"kept", b"changed", b"gone"):
            await write(store, Put(PREFIX + name, b"1"))
        watcher = mirror.watch()
        await watcher.receive()
        await mirror.wait_revision((await store.range(PREFIX)).revision)
        cluster.stop_member(ids[0])
        await asyncio.sleep(ELECTION_S)
        await write(store, Delete(PREFIX + b"gone"))
        await write(store, Put(PREFIX + b"changed", b"2"))
        revision = await write(store, Put(PREFIX + b"new", b"1"))
        await store.compact(revision)
        cluster.start_member(ids[0], name="m0")
        assert keys_of(await watcher.receive()) == {b"gone": None, b"changed": b"2", b"new": b"1"}
        assert tuple(mirror.items.values()) == (await store.range(PREFIX)).items

    run_with_mirror(body)


def test_a_mirror_whose_watch_breaks_misses_nothing() -> None:
    async def body(cluster: MemoryCluster, ids: list[int], mirror: Mirror) -> None:
        store = MemoryStore(cluster, ids[1])
        await mirror.wait_loaded()
        for number in range(20):
            cluster.disconnect_watches(ids[0])
            revision = await write(store, Put(PREFIX + b"%02d" % number, b""))
            await mirror.wait_revision(revision)
            assert PREFIX + b"%02d" % number in mirror.items

    run_with_mirror(body)


def test_a_mirror_that_starts_without_the_store_loads_when_it_comes() -> None:
    async def main() -> None:
        cluster, ids = trio()
        await write(MemoryStore(cluster, ids[0]), Put(PREFIX + b"a", b"1"))
        cluster.stop_member(ids[0])
        mirror = Mirror(MemoryStore(cluster, ids[0]), PREFIX)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(mirror.run())
            await asyncio.sleep(30)
            assert mirror.revision == 0
            cluster.start_member(ids[0], name="m0")
            async with asyncio.timeout(5):
                await mirror.wait_loaded()
            assert PREFIX + b"a" in mirror.items
            running.cancel()

    simulate(main, seed=1)


class Reader:
    """Believes what its watcher tells it."""

    def __init__(self, watcher: MirrorWatcher) -> None:
        self.watcher = watcher
        self.items: dict[bytes, KeyValue] = {}

    async def run(self) -> None:
        while True:
            for change in await self.watcher.receive():
                if change.item is None:
                    del self.items[change.key]
                else:
                    self.items[change.key] = change.item


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_breaks_reads_are_never_stale_and_watchers_converge(seed: int) -> None:
    rng = Random(seed)
    faults = Faults(
        delay_s=lambda _member_id: rng.uniform(0, 0.02),
        replication_delay_s=lambda _member_id: rng.choice([0.0, 0.001, 0.3]),
        hang_s=lambda _member_id: rng.uniform(0, 2),
        loses_reply=lambda _member_id: rng.random() < 0.05,
    )

    async def break_something(cluster: MemoryCluster, ids: list[int]) -> None:
        match rng.randrange(12):
            case 0:
                cluster.disconnect_watches()
            case 1:
                cluster.lose_leader(for_s=rng.uniform(0, 3))
            case 2:
                cluster.isolate(rng.choice(ids))
            case 3:
                cluster.heal()
            case 4:
                cluster.compact(rng.randint(1, cluster.keyspace.revision))
            case _:
                await asyncio.sleep(rng.uniform(0, 0.5))

    async def body(cluster: MemoryCluster, ids: list[int], mirror: Mirror) -> None:
        store = MemoryStore(cluster, ids[0])
        reader = Reader(mirror.watch())
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(reader.run())
            for _number in range(80):
                await break_something(cluster, ids)
                key = PREFIX + b"%d" % rng.randrange(10)
                try:
                    change = Delete(key) if rng.random() < 0.3 else Put(key, b"")
                    revision = await write(MemoryStore(cluster, rng.choice(ids)), change)
                except MetropolisError:
                    continue
                if rng.random() < 0.5:
                    cluster.heal()
                    await mirror.wait_revision(revision)
                    assert mirror.revision >= revision
                    assert [
                        item
                        for item in mirror.items.values()
                        if item.mod_revision > mirror.revision
                    ] == []
                    if mirror.revision == cluster.keyspace.revision:
                        assert dict(mirror.items) == {
                            item.key: item for item in cluster.keyspace.scan(PREFIX).items
                        }
            cluster.heal()
            await asyncio.sleep(ELECTION_S)
            found = await store.range(PREFIX)
            await mirror.wait_revision(found.revision)
            assert tuple(mirror.items.values()) == tuple(found.items)
            await asyncio.sleep(0)
            assert reader.items == dict(mirror.items)
            reading.cancel()

    run_with_mirror(body, faults=faults, seed=seed)
