# SPDX-License-Identifier: Apache-2.0
"""What every watch promises: the real etcd and its memory twin pass the same tests."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from metropolis.base.errors import OutOfRangeError
from metropolis.consensus.store import (
    Delete,
    Membership,
    Put,
    Store,
    Watch,
    WatchBatch,
    WatchCompactedError,
    WatchEvent,
)

Run = Callable[[Callable[[Store, Membership], Awaitable[None]]], None]


async def put(store: Store, key: bytes, value: bytes = b"v") -> int:
    return (await store.transact([], [Put(key, value)])).revision


async def delete(store: Store, key: bytes) -> int:
    return (await store.transact([], [Delete(key)])).revision


async def receive_until(watch: Watch, revision: int) -> list[WatchBatch]:
    batches: list[WatchBatch] = []
    while not batches or batches[-1].revision < revision:
        batches.append(await watch.receive())
    return batches


def events_of(batches: Sequence[WatchBatch]) -> list[WatchEvent]:
    return [event for batch in batches for event in batch.events]


def test_a_watch_from_now_sees_what_comes(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        await put(store, prefix + b"before")
        async with store.watch(prefix, start_revision=0) as watch:
            created = await put(store, prefix + b"a", b"one")
            await put(store, prefix[:-1] + b"0", b"beside")
            deleted = await delete(store, prefix + b"a")
            events = events_of(await receive_until(watch, deleted))
        assert events == [
            WatchEvent(
                key=prefix + b"a",
                value=b"one",
                mod_revision=created,
                create_revision=created,
                version=1,
            ),
            WatchEvent(
                key=prefix + b"a",
                value=b"",
                mod_revision=deleted,
                create_revision=0,
                is_deleted=True,
            ),
        ]

    run(scenario)


def test_a_watch_from_a_past_revision_replays(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        await put(store, prefix + b"a", b"0")
        start = await put(store, prefix + b"a", b"1")
        for number in range(2, 6):
            await put(store, prefix + b"a", b"%d" % number)
        async with store.watch(prefix, start_revision=start) as watch:
            last = await put(store, prefix + b"a", b"6")
            batches = await receive_until(watch, last)
        events = events_of(batches)
        assert [event.value for event in events] == [b"1", b"2", b"3", b"4", b"5", b"6"]
        assert [event.mod_revision for event in events] == list(range(start, last + 1))
        assert all(batch.revision == batch.events[-1].mod_revision for batch in batches)

    run(scenario)


def test_a_watch_from_a_future_revision_waits_for_it(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        now = await put(store, prefix + b"a", b"0")
        async with store.watch(prefix, start_revision=now + 3) as watch:
            for number in range(1, 5):
                await put(store, prefix + b"a", b"%d" % number)
            events = events_of(await receive_until(watch, now + 4))
        assert [event.value for event in events] == [b"3", b"4"]

    run(scenario)


def test_changes_of_one_revision_arrive_in_one_batch(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        keys = [prefix + b"%03d" % number for number in range(100)]
        async with store.watch(prefix, start_revision=0) as watch:
            await store.transact([], [Put(key, b"x") for key in keys])
            batch = await watch.receive()
            assert [event.key for event in batch.events] == keys
            await store.transact([], [Delete(prefix, is_prefix=True)])
            batch = await watch.receive()
            assert [event.key for event in batch.events] == keys
            assert all(event.is_deleted for event in batch.events)

    run(scenario)


def test_a_revision_larger_than_a_message_arrives_whole(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        big = bytes(1 << 20)
        start = 0
        for number in range(7):  # each at the limit of a request; together past that of a message
            revision = await put(store, prefix + b"%d" % number, big)
            start = start or revision
        async with store.watch(prefix, start_revision=start) as watch:
            events = events_of(await receive_until(watch, start + 6))
        assert [(event.mod_revision, len(event.value)) for event in events] == [
            (start + number, 1 << 20) for number in range(7)
        ]

    run(scenario)


def test_progress_can_be_asked_for(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        async with store.watch(prefix, start_revision=0) as watch:
            revision = await put(store, prefix[:-1] + b"-elsewhere")
            await watch.request_progress()
            batch = await watch.receive()
        assert not batch.events
        assert batch.revision >= revision

    run(scenario)


def test_a_watch_from_compacted_history_says_where_history_begins(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        start = await put(store, prefix + b"a", b"0")
        last = start
        for number in range(1, 5):
            last = await put(store, prefix + b"a", b"%d" % number)
        await store.compact(last)
        with pytest.raises(WatchCompactedError) as caught:
            async with store.watch(prefix, start_revision=start) as watch:
                await watch.receive()
        assert caught.value.compact_revision == last
        async with store.watch(prefix, start_revision=last) as watch:
            assert [event.value for event in (await watch.receive()).events] == [b"4"]
        item = await store.get(prefix + b"a")
        assert item is not None
        assert item.version == 5

    run(scenario)


def test_an_open_watch_survives_the_compaction_of_what_it_need_not_see(
    run: Run, prefix: bytes
) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        async with store.watch(prefix, start_revision=0) as watch:
            revision = 0
            for _number in range(3):
                revision = await put(store, prefix[:-1] + b"-elsewhere")
            await watch.request_progress()
            assert (await watch.receive()).revision >= revision
            await store.compact(revision)
            await put(store, prefix + b"a")
            assert [event.key for event in (await watch.receive()).events] == [prefix + b"a"]

    run(scenario)


def test_compaction_takes_nothing_from_a_watch_that_is_not_being_read(
    run: Run, prefix: bytes
) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        async with store.watch(prefix, start_revision=0) as watch:
            revision = 0
            for number in range(3):
                revision = await put(store, prefix + b"a", b"%d" % number)
            await store.compact(revision)
            events = events_of(await receive_until(watch, revision))
        assert [event.value for event in events] == [b"0", b"1", b"2"]

    run(scenario)


def test_compaction_may_be_repeated_but_not_reach_into_the_future(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        revision = await put(store, prefix + b"a")
        await store.compact(revision)
        await store.compact(revision)
        await store.compact(revision - 1)
        with pytest.raises(WatchCompactedError):
            async with store.watch(prefix, start_revision=revision - 1) as watch:
                await watch.receive()
        with pytest.raises(OutOfRangeError):
            await store.compact(revision + 100)

    run(scenario)


def test_a_cancelled_receive_loses_nothing(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        async with store.watch(prefix, start_revision=0) as watch:
            for _attempt in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await watch.receive()
            await put(store, prefix + b"a")
            assert [event.key for event in (await watch.receive()).events] == [prefix + b"a"]

    run(scenario)
