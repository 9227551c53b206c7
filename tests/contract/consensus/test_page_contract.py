# SPDX-License-Identifier: Apache-2.0
"""Reading a past revision page by page, while others write."""

from collections.abc import Awaitable, Callable

import pytest

from metropolis.base.errors import OutOfRangeError
from metropolis.consensus.store import Delete, KeyValue, Membership, Put, Store

Run = Callable[[Callable[[Store, Membership], Awaitable[None]]], None]


async def read_all(store: Store, prefix: bytes, revision: int, limit: int) -> list[KeyValue]:
    found: list[KeyValue] = []
    while True:
        after = found[-1].key if found else b""
        page = await store.page(prefix, after=after, revision=revision, limit=limit)
        assert page.revision == revision
        assert len(page.items) <= limit
        found += page.items
        if len(page.items) < limit:
            return found


async def put(store: Store, key: bytes, value: bytes) -> int:
    return (await store.transact([], [Put(key, value)])).revision


@pytest.mark.parametrize("limit", [1, 3, 4, 1000])
def test_pages_show_the_revision_whatever_is_written_meanwhile(
    run: Run, prefix: bytes, limit: int
) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        for name in (b"a", b"b", b"c"):
            await put(store, prefix + name, b"old")
        pinned = await put(store, prefix + b"d", b"old")
        before = list((await store.range(prefix)).items)
        await put(store, prefix + b"bb", b"new")
        await put(store, prefix + b"c", b"new")
        await store.transact([], [Delete(prefix + b"a")])
        assert await read_all(store, prefix, pinned, limit) == before
        now = await store.range(prefix)
        assert await read_all(store, prefix, now.revision, limit) == list(now.items)

    run(scenario)


def test_a_compacted_revision_is_refused_and_the_compaction_itself_is_not(
    run: Run, prefix: bytes
) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        old = await put(store, prefix + b"a", b"1")
        kept = await put(store, prefix + b"a", b"2")
        await put(store, prefix + b"a", b"3")
        await store.compact(kept)
        (found,) = await read_all(store, prefix, kept, 10)
        assert found.value == b"2"
        with pytest.raises(OutOfRangeError):
            await store.page(prefix, revision=old, limit=1)

    run(scenario)


def test_a_revision_of_the_future_is_refused(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        now = await put(store, prefix + b"a", b"1")
        with pytest.raises(OutOfRangeError):
            await store.page(prefix, revision=now + 1000, limit=1)

    run(scenario)


def test_deletions_and_lives_before_a_compaction_are_remembered(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        await put(store, prefix + b"a", b"1")
        await put(store, prefix + b"b", b"1")
        await store.transact([], [Delete(prefix + b"b")])
        await store.compact((await store.range(prefix)).revision)
        pinned = await put(store, prefix + b"c", b"1")
        await store.transact([], [Delete(prefix, is_prefix=True)])
        found = await read_all(store, prefix, pinned, 1)
        assert [each.key for each in found] == [prefix + b"a", prefix + b"c"]

    run(scenario)
