# SPDX-License-Identifier: Apache-2.0
"""Leadership among contenders, on a real etcd and on its memory twin."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from typing_extensions import override

from metropolis.api.lock_pb2 import LeaderElectionValue
from metropolis.consensus.election import (
    Election,
    Following,
    Leadership,
    Leading,
    Unknown,
    fence,
)
from metropolis.consensus.store import (
    Compare,
    Delete,
    KeyValue,
    Membership,
    Operation,
    Put,
    RangeResult,
    Store,
    StoreStatus,
    TransactionResult,
    Watch,
    WatchBatch,
)

Run = Callable[[Callable[[Store, Membership], Awaitable[None]]], None]
T = TypeVar("T")

TTL_S = 3


class Wire(Store):
    """A node's way to the store, which can be cut: calls then hang, as after a power cut."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.is_cut = False
        self._cut = asyncio.Event()

    def cut(self) -> None:
        self.is_cut = True
        self._cut.set()

    async def carry(self, call: Awaitable[T]) -> T:
        if not self.is_cut:
            result = await call
            if not self.is_cut:
                return result
        elif asyncio.iscoroutine(call):
            call.close()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("unreachable")

    @override
    async def get(self, key: bytes) -> KeyValue | None:
        return await self.carry(self.store.get(key))

    @override
    async def range(self, prefix: bytes, *, limit: int = 0, keys_only: bool = False) -> RangeResult:
        return await self.carry(self.store.range(prefix, limit=limit, keys_only=keys_only))

    @override
    async def transact(
        self,
        compares: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
    ) -> TransactionResult:
        return await self.carry(self.store.transact(compares, success, failure))

    @override
    @asynccontextmanager
    async def watch(self, prefix: bytes, *, start_revision: int) -> AsyncIterator[Watch]:
        async with self.store.watch(prefix, start_revision=start_revision) as watch:
            yield WiredWatch(self, watch)

    @override
    async def grant_lease(self, ttl_s: int) -> int:
        return await self.carry(self.store.grant_lease(ttl_s))

    @override
    async def get_local(self, key: bytes) -> KeyValue | None:
        return await self.carry(self.store.get_local(key))

    @override
    async def page(
        self, prefix: bytes, *, after: bytes = b"", revision: int, limit: int
    ) -> RangeResult:
        reading = self.store.page(prefix, after=after, revision=revision, limit=limit)
        return await self.carry(reading)

    @override
    async def keep_lease_alive(self, lease_id: int) -> int:
        return await self.carry(self.store.keep_lease_alive(lease_id))

    @override
    async def revoke_lease(self, lease_id: int) -> None:
        await self.carry(self.store.revoke_lease(lease_id))

    @override
    async def compact(self, revision: int) -> None:
        await self.carry(self.store.compact(revision))

    @override
    async def scrub(self, revision: int) -> bool:
        return await self.carry(self.store.scrub(revision))

    @override
    async def defragment(self) -> None:
        await self.carry(self.store.defragment())

    @override
    async def disarm(self) -> None:
        await self.carry(self.store.disarm())

    @override
    async def status(self) -> StoreStatus:
        return await self.carry(self.store.status())


class WiredWatch(Watch):
    def __init__(self, wire: Wire, watch: Watch) -> None:
        self.wire = wire
        self.watch = watch

    @override
    async def receive(self) -> WatchBatch:
        return await self.wire.carry(self.watch.receive())

    @override
    async def request_progress(self) -> None:
        await self.wire.carry(self.watch.request_progress())


class Contender:
    """A node that contends until it is killed."""

    def __init__(self, group: asyncio.TaskGroup, store: Store, prefix: bytes, name: str) -> None:
        self.name = name
        self.wire = Wire(store)
        self.election = Election(self.wire, prefix=prefix, node_id=name, ttl_s=TTL_S)
        self.task = group.create_task(self.election.run())

    @property
    def state(self) -> Leadership:
        return self.election.state.current

    async def wait_leading(self) -> Leading:
        state = await self.election.state.wait_for(lambda state: isinstance(state, Leading))
        assert isinstance(state, Leading)
        return state

    async def wait_following(self) -> Following:
        state = await self.election.state.wait_for(lambda state: isinstance(state, Following))
        assert isinstance(state, Following)
        return state

    def crash(self) -> None:
        """Vanish without a word to the store."""
        self.wire.cut()
        self.task.cancel()


async def end(contenders: Sequence[Contender]) -> None:
    for contender in contenders:
        contender.task.cancel()
    await asyncio.gather(*(c.task for c in contenders), return_exceptions=True)


def leaders(contenders: Sequence[Contender]) -> list[str]:
    return [c.name for c in contenders if isinstance(c.state, Leading)]


async def first_leader(contenders: Sequence[Contender]) -> Contender:
    """Wait until somebody leads."""
    waits = {asyncio.ensure_future(contender.wait_leading()): contender for contender in contenders}
    done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in pending:
        wait.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    (first,) = done
    return waits[first]


def test_of_three_contenders_one_leads_and_the_others_know_who(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        async with asyncio.TaskGroup() as group:
            trio = [Contender(group, store, prefix, f"node-{number}") for number in range(3)]
            leader = await first_leader(trio)
            lock = await leader.wait_leading()
            for contender in trio:
                if contender is not leader:
                    assert await contender.wait_following() == Following(
                        leader=leader.name,
                        lock_key=lock.lock_key,
                        lock_revision=lock.lock_revision,
                    )
            assert leaders(trio) == [leader.name]
            item = await store.get(lock.lock_key)
            assert item is not None
            assert lock.lock_key == prefix + f"{item.lease_id:x}".encode()
            assert item.create_revision == lock.lock_revision
            assert LeaderElectionValue.FromString(item.value) == LeaderElectionValue(
                node_id=leader.name, ttl=TTL_S
            )
            await end(trio)
        assert not (await store.range(prefix)).items

    run(scenario)


def test_a_crashed_leader_is_replaced_within_its_lease_and_a_second(
    run: Run, prefix: bytes
) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            trio = [Contender(group, store, prefix, f"node-{number}") for number in range(3)]
            leader = await first_leader(trio)
            others = [contender for contender in trio if contender is not leader]
            for contender in others:
                await contender.wait_following()
            await asyncio.sleep(1.5)  # until after a renewal, so that the lease is not new
            leader.crash()
            crashed_s = loop.time()
            successor = await first_leader(others)
            assert TTL_S - 1.5 < loop.time() - crashed_s < TTL_S + 1
            assert leaders(others) == [successor.name]
            await end(trio)

    run(scenario)


def test_a_leader_that_loses_the_store_steps_down_before_anybody_follows(
    run: Run, prefix: bytes
) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            leader = Contender(group, store, prefix, "node-0")
            await leader.wait_leading()
            other = Contender(group, store, prefix, "node-1")
            await other.wait_following()
            await asyncio.sleep(2.2)
            leader.wire.cut()
            cut_s = loop.time()
            await leader.election.state.wait_for(lambda state: isinstance(state, Unknown))
            assert loop.time() - cut_s < TTL_S
            assert not isinstance(other.state, Leading)
            await other.wait_leading()
            assert isinstance(leader.state, Unknown)
            await end([leader, other])

    run(scenario)


def test_a_deposed_leader_cannot_write_any_more(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        key = prefix[:-1] + b"-data"
        async with asyncio.TaskGroup() as group:
            old = Contender(group, store, prefix, "node-0")
            stale = await old.wait_leading()
            assert (await store.transact([fence(stale)], [Put(key, b"old")])).succeeded
            new = Contender(group, store, prefix, "node-1")
            await new.wait_following()
            old.crash()
            lock = await new.wait_leading()
            assert not (await store.transact([fence(stale)], [Put(key, b"stale")])).succeeded
            assert (await store.transact([fence(lock)], [Put(key, b"new")])).succeeded
            assert lock.lock_revision > stale.lock_revision
            await end([old, new])

    run(scenario)


def test_a_restarted_leader_does_not_wait_for_its_own_lease(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            crashed = Contender(group, store, prefix, "node-0")
            stale = await crashed.wait_leading()
            crashed.crash()
            started_s = loop.time()
            restarted = Contender(group, store, prefix, "node-0")
            lock = await restarted.wait_leading()
            assert loop.time() - started_s < 1
            assert lock.lock_key != stale.lock_key
            assert await store.get(stale.lock_key) is None
            await end([crashed, restarted])

    run(scenario)


def test_a_restarted_contender_leaves_the_keys_of_others_alone(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        async with asyncio.TaskGroup() as group:
            leader = Contender(group, store, prefix, "node-0")
            lock = await leader.wait_leading()
            other = Contender(group, store, prefix, "node-1")
            await other.wait_following()
            other.crash()
            again = Contender(group, store, prefix, "node-1")
            await again.wait_following()
            assert leader.state == lock
            assert len((await store.range(prefix)).items) == 2
            await end([leader, other, again])

    run(scenario)


def test_a_leader_that_resigns_is_replaced_at_once(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            leader = Contender(group, store, prefix, "node-0")
            await leader.wait_leading()
            other = Contender(group, store, prefix, "node-1")
            await other.wait_following()
            resigned_s = loop.time()
            await leader.election.resign()
            assert isinstance(leader.state, Unknown)
            await other.wait_leading()
            assert loop.time() - resigned_s < 1
            following = await leader.wait_following()  # and contends again
            assert following.leader == "node-1"
            await end([leader, other])

    run(scenario)


def test_a_leader_that_is_stopped_makes_room_at_once(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            leader = Contender(group, store, prefix, "node-0")
            await leader.wait_leading()
            other = Contender(group, store, prefix, "node-1")
            await other.wait_following()
            stopped_s = loop.time()
            leader.task.cancel()
            await other.wait_leading()
            assert loop.time() - stopped_s < 1
            await end([leader, other])

    run(scenario)


def test_a_leader_whose_key_is_deleted_knows_at_once(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        async with asyncio.TaskGroup() as group:
            leader = Contender(group, store, prefix, "node-0")
            lock = await leader.wait_leading()
            item = await store.get(lock.lock_key)
            assert item is not None
            await store.revoke_lease(item.lease_id)
            async with asyncio.timeout(1):
                await leader.election.state.wait_for(lambda state: isinstance(state, Unknown))
            again = await leader.wait_leading()
            assert again.lock_revision > lock.lock_revision
            await end([leader])

    run(scenario)


def test_a_leader_keeps_leading_while_its_lease_is_renewed(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        async with asyncio.TaskGroup() as group:
            leader = Contender(group, store, prefix, "node-0")
            lock = await leader.wait_leading()
            version = leader.election.state.version
            await asyncio.sleep(TTL_S * 1.5)
            assert leader.state == lock
            assert leader.election.state.version == version
            await end([leader])

    run(scenario)


def test_keys_that_are_no_contenders_values_do_no_harm(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        await store.transact([], [Put(prefix + b"junk", b"\xff\xff\xff")])
        async with asyncio.TaskGroup() as group:
            contender = Contender(group, store, prefix, "node-0")
            assert (await contender.wait_following()).leader == ""
            await store.transact([], [Delete(prefix + b"junk")])
            await contender.wait_leading()
            await end([contender])

    run(scenario)
