# SPDX-License-Identifier: Apache-2.0
"""The cache of a prefix, on a real etcd and on its memory twin."""

import asyncio
from collections.abc import Awaitable, Callable

from metropolis.consensus.mirror import Mirror
from metropolis.consensus.store import Delete, Membership, Operation, Put, Store

Run = Callable[[Callable[[Store, Membership], Awaitable[None]]], None]


async def write(store: Store, *operations: Operation) -> int:
    return (await store.transact([], operations)).revision


async def beside(mirror: Mirror, body: Awaitable[None]) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(mirror.run())
        await body
        running.cancel()


def test_a_mirror_equals_the_store_at_every_revision_it_waited_for(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        mirror = Mirror(store, prefix)
        lease_id = await store.grant_lease(60)
        await write(store, Put(prefix + b"before", b"1"), Put(prefix + b"leased", b"", lease_id))

        async def body() -> None:
            watcher = mirror.watch()
            for number in range(30):
                key = prefix + b"%d" % (number % 7)
                step = Delete(key) if number % 5 == 4 else Put(key, b"%d" % number)
                await mirror.wait_revision(await write(store, step))
                assert tuple(mirror.items.values()) == (await store.range(prefix)).items
            await store.revoke_lease(lease_id)
            await mirror.wait_revision((await store.status()).revision)
            assert prefix + b"leased" not in mirror.items
            told = {change.key: change.item for change in await watcher.receive()}
            assert told == dict(mirror.items)

        await beside(mirror, body())

    run(scenario)


def test_an_idle_mirror_reaches_a_revision_within_milliseconds(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        mirror = Mirror(store, prefix)
        loop = asyncio.get_running_loop()

        async def body() -> None:
            await mirror.wait_loaded()
            fastest_s = 1.0
            for _number in range(20):
                revision = await write(store, Put(prefix[:-1] + b"-elsewhere", b""))
                before_s = loop.time()
                await mirror.wait_revision(revision)
                fastest_s = min(fastest_s, loop.time() - before_s)
            assert fastest_s < 0.05, "it waited for the next write, or for a timeout"

        await beside(mirror, body())

    run(scenario)


def test_a_mirror_outlives_the_compaction_of_everything_it_saw(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        mirror = Mirror(store, prefix)

        async def body() -> None:
            await mirror.wait_loaded()
            for number in range(5):
                revision = await write(store, Put(prefix + b"a", b"%d" % number))
                await store.compact(revision)
                await mirror.wait_revision(revision)
                assert mirror.items[prefix + b"a"].value == b"%d" % number

        await beside(mirror, body())

    run(scenario)
