# SPDX-License-Identifier: Apache-2.0
"""Store and Membership of one node: bound to one member, as a node is to its own etcd."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from metropolis.base.errors import FailedPreconditionError, UnavailableError
from metropolis.consensus.memory.cluster import MemoryCluster
from metropolis.consensus.memory.roster import MemberState
from metropolis.consensus.memory.watch import MemoryWatch
from metropolis.consensus.store import (
    Compare,
    Get,
    KeyValue,
    Member,
    Operation,
    RangeResult,
    StoreStatus,
    TransactionResult,
)


class MemoryStore:
    """See `metropolis.consensus.store.Store`."""

    def __init__(self, cluster: MemoryCluster, member_id: int) -> None:
        self._cluster = cluster
        self._member_id = member_id

    async def get(self, key: bytes) -> KeyValue | None:
        return await self._cluster.read(self._member_id, lambda: self._cluster.keyspace.get(key))

    async def range(self, prefix: bytes, *, limit: int = 0, keys_only: bool = False) -> RangeResult:
        keyspace = self._cluster.keyspace
        return await self._cluster.read(
            self._member_id, lambda: keyspace.scan(prefix, limit=limit, keys_only=keys_only)
        )

    async def get_local(self, key: bytes) -> KeyValue | None:
        state = self._cluster.local(self._member_id)
        await asyncio.sleep(self._cluster.faults.delay_s(self._member_id))
        found = self._cluster.keyspace.page(
            key, after=b"", revision=state.applied_revision, limit=1
        )
        return next((item for item in found.items if item.key == key), None)

    async def page(
        self, prefix: bytes, *, after: bytes = b"", revision: int, limit: int
    ) -> RangeResult:
        keyspace = self._cluster.keyspace
        return await self._cluster.read(
            self._member_id,
            lambda: keyspace.page(prefix, after=after, revision=revision, limit=limit),
        )

    async def transact(
        self,
        compares: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
    ) -> TransactionResult:
        keyspace = self._cluster.keyspace
        carry = (
            self._cluster.read
            if all(isinstance(step, Get) for step in (*success, *failure))
            else self._cluster.write
        )
        return await carry(self._member_id, lambda: keyspace.transact(compares, success, failure))

    @asynccontextmanager
    async def watch(
        self, prefix: bytes, *, start_revision: int
    ) -> AsyncGenerator[MemoryWatch, None]:
        cluster = self._cluster
        member = cluster.check_serving(self._member_id)
        watch = MemoryWatch(cluster.keyspace, member, prefix, start_revision=start_revision)
        cluster.attach(watch)
        try:
            yield watch
        finally:
            cluster.detach(watch)

    async def grant_lease(self, ttl_s: int) -> int:
        return await self._cluster.write(self._member_id, lambda: self._cluster.grant_lease(ttl_s))

    async def keep_lease_alive(self, lease_id: int) -> int:
        return await self._cluster.read(
            self._member_id, lambda: self._cluster.renew_lease(lease_id)
        )

    async def revoke_lease(self, lease_id: int) -> None:
        await self._cluster.write(self._member_id, lambda: self._cluster.end_lease(lease_id))

    async def compact(self, revision: int) -> None:
        await self._cluster.write(self._member_id, lambda: self._cluster.compact(revision))

    async def scrub(self, revision: int) -> bool:
        cluster = self._cluster

        def compact() -> bool:
            if revision <= cluster.keyspace.compacted:
                return False
            cluster.compact(revision)
            return True

        if not await cluster.write(self._member_id, compact):
            return False
        cluster.local(self._member_id).scrubbed_revision = revision
        return True

    async def defragment(self) -> None:
        await asyncio.sleep(self._cluster.faults.delay_s(self._member_id))  # there is no file

    async def disarm(self) -> None:
        await self._cluster.write(self._member_id, lambda: None)  # it is never full

    async def status(self) -> StoreStatus:
        cluster = self._cluster
        await asyncio.sleep(cluster.faults.delay_s(self._member_id))
        state = cluster.local(self._member_id)
        leader_id = cluster.leader_id if cluster.hears_leader(state) else 0
        return StoreStatus(
            revision=state.applied_revision,
            raft_term=cluster.raft_term,
            raft_index=cluster.raft_index,
            member_id=state.member_id,
            leader_id=leader_id,
            is_learner=state.is_learner,
            database_bytes=cluster.keyspace.value_bytes,
            errors=() if leader_id else ("etcdserver: no leader",),
        )


class MemoryMembership:
    """See `metropolis.consensus.store.Membership`."""

    def __init__(self, cluster: MemoryCluster, member_id: int) -> None:
        self._cluster = cluster
        self._member_id = member_id

    async def members(self) -> Sequence[Member]:
        roster = self._cluster.roster
        return await self._cluster.read(
            self._member_id, lambda: tuple(state.public() for state in roster)
        )

    async def add_learner(self, peer_url: str) -> Member:
        return await self._cluster.write(self._member_id, lambda: self._add_learner(peer_url))

    async def promote(self, member_id: int) -> None:
        await self._cluster.write(self._member_id, lambda: self._promote(member_id))

    async def remove(self, member_id: int) -> None:
        await self._cluster.write(self._member_id, lambda: self._remove(member_id))

    async def update(self, member_id: int, peer_url: str) -> None:
        await self._cluster.write(self._member_id, lambda: self._update(member_id, peer_url))

    async def move_leader(self, member_id: int) -> None:
        await self._cluster.write(self._member_id, lambda: self._move_leader(member_id))

    def _add_learner(self, peer_url: str) -> Member:
        roster = self._cluster.roster
        roster.check_add(peer_url, local=self._local(), now_s=_now_s())
        state = roster.add(peer_url, is_learner=True)
        self._cluster.reconsider()
        return state.public()

    def _promote(self, member_id: int) -> None:
        roster = self._cluster.roster
        roster.check_promote(member_id)
        roster.require(member_id).is_learner = False
        self._cluster.reconsider()

    def _remove(self, member_id: int) -> None:
        roster = self._cluster.roster
        roster.check_remove(member_id, local=self._local(), now_s=_now_s())
        roster.require(member_id).is_running = False
        roster.remove(member_id)
        self._cluster.disconnect_watches(member_id)
        self._cluster.reconsider()

    def _update(self, member_id: int, peer_url: str) -> None:
        roster = self._cluster.roster
        roster.check_update(member_id, peer_url)
        roster.require(member_id).peer_url = peer_url

    def _move_leader(self, member_id: int) -> None:
        cluster = self._cluster
        if cluster.leader_id != self._member_id:
            raise FailedPreconditionError(
                "the local member is not the raft leader", remedy="Ask the leader."
            )
        state = cluster.roster.find(member_id)
        if state is None or state.is_learner:
            raise FailedPreconditionError(
                "only a voting member can become the leader", remedy="Name a voting member."
            )
        if not cluster.hears_leader(state):
            raise UnavailableError("the consensus timed out", remedy="Retry.")
        cluster.transfer_leader(member_id)

    def _local(self) -> MemberState:
        return self._cluster.roster.require(self._member_id)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
