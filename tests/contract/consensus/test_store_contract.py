# SPDX-License-Identifier: Apache-2.0
"""What every store promises: the real etcd and its memory twin pass the same tests."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from metropolis.base.errors import InvalidArgumentError, NotFoundError
from metropolis.consensus.store import (
    Compare,
    Delete,
    Get,
    KeyValue,
    Membership,
    Operation,
    Put,
    Store,
    Target,
)

Run = Callable[[Callable[[Store, Membership], Awaitable[None]]], None]


async def put(store: Store, key: bytes, value: bytes = b"v") -> int:
    return (await store.transact([], [Put(key, value)])).revision


async def delete(store: Store, key: bytes) -> int:
    return (await store.transact([], [Delete(key)])).revision


def test_a_new_key_has_one_revision_for_creation_and_change(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        assert await store.get(prefix + b"a") is None
        revision = await put(store, prefix + b"a", b"one")
        assert await store.get(prefix + b"a") == KeyValue(
            key=prefix + b"a",
            value=b"one",
            create_revision=revision,
            mod_revision=revision,
            version=1,
        )

    run(scenario)


def test_a_change_keeps_the_creation_and_counts_the_version(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        created = await put(store, prefix + b"a", b"one")
        changed = await put(store, prefix + b"a", b"two")
        assert changed == created + 1
        item = await store.get(prefix + b"a")
        assert item is not None
        assert (item.create_revision, item.mod_revision, item.version) == (created, changed, 2)

    run(scenario)


def test_a_key_created_again_after_deletion_starts_anew(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        await put(store, prefix + b"a")
        await delete(store, prefix + b"a")
        again = await put(store, prefix + b"a")
        item = await store.get(prefix + b"a")
        assert item is not None
        assert (item.create_revision, item.version) == (again, 1)

    run(scenario)


def test_deleting_nothing_makes_no_revision(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        revision = await put(store, prefix + b"a")
        assert await delete(store, prefix + b"missing") == revision
        assert (await store.transact([], [Get(prefix + b"a")])).revision == revision

    run(scenario)


def test_a_range_is_sorted_by_bytes_and_ends_with_the_prefix(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        inside = prefix + b"dir/"
        names = [b"z", b"a", b"\xff", b"\xff\xff", b"\x00", b"", b"a/b", b"\x7f", b"\x80"]
        outside = [prefix + b"dir", prefix + b"dir0", prefix + b"dir.", prefix + b"e"]
        revision = 0
        for key in [inside + name for name in names] + outside:
            revision = await put(store, key)
        found = await store.range(inside)
        assert [item.key for item in found.items] == sorted(inside + name for name in names)
        assert found.revision == revision
        limited = await store.range(inside, limit=3)
        assert list(limited.items) == list(found.items)[:3]

    run(scenario)


def test_a_prefix_that_ends_in_the_highest_byte_has_an_end(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        await put(store, prefix + b"a\xff\xff/x")
        await put(store, prefix + b"a\xff\xff")
        await put(store, prefix + b"b")
        found = await store.range(prefix + b"a\xff\xff")
        assert [item.key for item in found.items] == [
            prefix + b"a\xff\xff",
            prefix + b"a\xff\xff/x",
        ]

    run(scenario)


def test_a_range_of_keys_only_has_no_values(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        revision = await put(store, prefix + b"a", b"one")
        (item,) = (await store.range(prefix, keys_only=True)).items
        assert (item.key, item.value, item.mod_revision) == (prefix + b"a", b"", revision)

    run(scenario)


def test_a_range_larger_than_one_page_is_whole(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        keys = [prefix + b"%04d" % number for number in range(1101)]
        for start in range(0, len(keys), 100):
            await store.transact([], [Put(key, b"x") for key in keys[start : start + 100]])
        assert [item.key for item in (await store.range(prefix)).items] == keys
        assert [item.key for item in (await store.range(prefix, limit=700)).items] == keys[:700]

    run(scenario)


def test_the_empty_prefix_means_everything(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        await put(store, prefix + b"a")
        keys = [item.key for item in (await store.range(b"")).items]
        assert prefix + b"a" in keys
        assert keys == sorted(keys)

    run(scenario)


@pytest.mark.parametrize(
    ("target", "present", "missing"),
    [
        (Target.VERSION, 2, 0),
        (Target.CREATE_REVISION, None, 0),
        (Target.MOD_REVISION, None, 0),
        (Target.VALUE, b"two", None),
    ],
)
def test_every_target_of_a_comparison_decides(
    run: Run, prefix: bytes, target: Target, present: int | bytes | None, missing: int | None
) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        created = await put(store, prefix + b"a", b"one")
        changed = await put(store, prefix + b"a", b"two")
        expected = present
        if target is Target.CREATE_REVISION:
            expected = created
        elif target is Target.MOD_REVISION:
            expected = changed
        assert expected is not None
        wrong = b"one" if isinstance(expected, bytes) else expected + 1

        async def holds(key: bytes, value: int | bytes) -> bool:
            return (await store.transact([Compare(key, target, value)], [])).succeeded

        assert await holds(prefix + b"a", expected)
        assert not await holds(prefix + b"a", wrong)
        if missing is not None:
            assert await holds(prefix + b"missing", missing)
            assert not await holds(prefix + b"a", missing)
        else:
            assert not await holds(prefix + b"missing", b"")
        assert not await holds(prefix + b"missing", expected)

    run(scenario)


def test_one_failed_comparison_runs_the_other_branch(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        await put(store, prefix + b"a", b"one")
        result = await store.transact(
            [
                Compare(prefix + b"a", Target.VALUE, b"one"),
                Compare(prefix + b"b", Target.VERSION, 1),
            ],
            [Put(prefix + b"a", b"two")],
            [Get(prefix + b"a"), Put(prefix + b"c", b"three"), Get(prefix, is_prefix=True)],
        )
        assert not result.succeeded
        assert [[item.value for item in found] for found in result.ranges] == [
            [b"one"],
            [b"one", b"three"],  # it sees what the same transaction wrote before
        ]

    run(scenario)


def test_writes_of_a_transaction_share_a_revision(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        await put(store, prefix + b"old/1")
        await put(store, prefix + b"old/2")
        result = await store.transact(
            [],
            [
                Put(prefix + b"a", b"1"),
                Put(prefix + b"b", b"2"),
                Delete(prefix + b"old/", is_prefix=True),
            ],
        )
        items = (await store.range(prefix)).items
        assert [(item.key, item.mod_revision) for item in items] == [
            (prefix + b"a", result.revision),
            (prefix + b"b", result.revision),
        ]

    run(scenario)


@pytest.mark.parametrize("is_prefix", [False, True])
def test_a_key_written_twice_in_one_transaction_is_refused(
    run: Run, prefix: bytes, is_prefix: bool
) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        twice: list[list[Operation]] = [
            [Put(prefix + b"a", b"1"), Put(prefix + b"a", b"2")],
            [Put(prefix + b"a", b"1"), Delete(prefix + b"a", is_prefix=is_prefix)],
            [Delete(prefix + b"a", is_prefix=is_prefix), Put(prefix + b"a", b"1")],
        ]
        for operations in twice:
            with pytest.raises(InvalidArgumentError):
                await store.transact([], operations)
            with pytest.raises(InvalidArgumentError):
                await store.transact([], [], operations)
        assert await store.get(prefix + b"a") is None

    run(scenario)


def test_deleting_twice_in_one_transaction_is_fine(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        await put(store, prefix + b"a")
        await store.transact([], [Delete(prefix + b"a"), Delete(prefix, is_prefix=True)])
        assert not (await store.range(prefix)).items

    run(scenario)


def test_malformed_requests_are_refused(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        many = [Put(prefix + b"%d" % number, b"") for number in range(129)]
        for operations in (many, [Put(b"", b"x")], [Delete(b"")], [Get(b"")]):
            with pytest.raises(InvalidArgumentError):
                await store.transact([], operations)
        with pytest.raises(InvalidArgumentError):
            await store.transact([Compare(b"", Target.VERSION, 0)], [])
        with pytest.raises(InvalidArgumentError):
            await store.transact([], [Put(prefix + b"a", bytes(2 << 20))])
        assert not (await store.range(prefix)).items

    run(scenario)


def test_a_value_of_one_mebibyte_fits(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        await put(store, prefix + b"a", bytes(1 << 20))
        item = await store.get(prefix + b"a")
        assert item is not None
        assert len(item.value) == 1 << 20

    run(scenario)


def test_a_lease_that_is_renewed_keeps_its_keys(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        lease_id = await store.grant_lease(2)
        await store.transact([], [Put(prefix + b"a", b"", lease_id)])
        for _attempt in range(3):
            await asyncio.sleep(1.0)
            assert await store.keep_lease_alive(lease_id) == 2
        item = await store.get(prefix + b"a")
        assert item is not None
        assert item.lease_id == lease_id

    run(scenario)


def test_a_lease_that_ends_deletes_its_keys_at_one_revision(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        start_s = asyncio.get_running_loop().time()
        lease_id = await store.grant_lease(2)
        await store.transact([], [Put(prefix + b"stays", b"")])
        put_both = [Put(prefix + b"b", b"", lease_id), Put(prefix + b"a", b"", lease_id)]
        revision = (await store.transact([], put_both)).revision
        async with store.watch(prefix, start_revision=revision + 1) as watch:
            batch = await watch.receive()
        assert [(event.key, event.is_deleted) for event in batch.events] == [
            (prefix + b"a", True),
            (prefix + b"b", True),
        ]
        assert 2.0 <= asyncio.get_running_loop().time() - start_s < 4.0
        assert await store.keep_lease_alive(lease_id) == 0
        assert [item.key for item in (await store.range(prefix)).items] == [prefix + b"stays"]

    run(scenario)


def test_a_short_lease_lives_at_least_two_seconds(run: Run) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        lease_id = await store.grant_lease(1)
        assert await store.keep_lease_alive(lease_id) == 2
        await store.revoke_lease(lease_id)

    run(scenario)


def test_revoking_a_lease_deletes_its_keys_and_may_be_repeated(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        lease_id = await store.grant_lease(60)
        await store.transact([], [Put(prefix + b"a", b"", lease_id)])
        await store.revoke_lease(lease_id)
        assert await store.get(prefix + b"a") is None
        assert await store.keep_lease_alive(lease_id) == 0
        await store.revoke_lease(lease_id)

    run(scenario)


def test_a_key_put_again_leaves_its_lease(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        first, second = await store.grant_lease(60), await store.grant_lease(60)
        for key in (b"free", b"moved", b"kept", b"again"):
            await store.transact([], [Put(prefix + key, b"", first)])
        await put(store, prefix + b"free")
        await delete(store, prefix + b"again")
        await put(store, prefix + b"again")
        await store.transact([], [Put(prefix + b"moved", b"", second)])
        await store.revoke_lease(first)
        keys = [item.key for item in (await store.range(prefix)).items]
        assert keys == [prefix + b"again", prefix + b"free", prefix + b"moved"]
        await store.revoke_lease(second)

    run(scenario)


def test_a_put_with_a_lease_that_is_gone_changes_nothing(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        lease_id = await store.grant_lease(60)
        await store.revoke_lease(lease_id)
        with pytest.raises(NotFoundError):
            await store.transact([], [Put(prefix + b"a", b""), Put(prefix + b"b", b"", lease_id)])
        assert not (await store.range(prefix)).items
        ok = await store.transact(  # only the branch that runs needs its leases
            [], [Put(prefix + b"c", b"")], [Put(prefix + b"d", b"", lease_id)]
        )
        assert ok.succeeded

    run(scenario)


def test_concurrent_increments_lose_nothing(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        key = prefix + b"counter"
        await put(store, key, b"0")

        async def increment() -> None:
            while True:
                item = await store.get(key)
                assert item is not None
                unchanged = Compare(key, Target.MOD_REVISION, item.mod_revision)
                more = Put(key, b"%d" % (int(item.value) + 1))
                if (await store.transact([unchanged], [more])).succeeded:
                    return

        async with asyncio.TaskGroup() as group:
            for _number in range(20):
                group.create_task(increment())
        item = await store.get(key)
        assert item is not None
        assert (item.value, item.version) == (b"20", 21)

    run(scenario)


def test_the_status_names_the_leader(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, membership: Membership) -> None:
        before = await store.status()
        revision = await put(store, prefix + b"a")
        status = await store.status()
        (member,) = await membership.members()
        assert status.member_id == status.leader_id == member.member_id
        assert status.revision == revision
        assert status.raft_index > before.raft_index
        assert status.raft_term >= 1
        assert status.database_bytes > 0
        assert not status.is_learner
        assert not status.errors

    run(scenario)
