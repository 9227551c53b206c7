# SPDX-License-Identifier: Apache-2.0
"""Keys, transactions, leases and status of a real etcd."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from google.protobuf.message import Message

from metropolis.api import etcd_pb2 as pb
from metropolis.api.methods import Method
from metropolis.api.rpc_etcd import EtcdKv, EtcdLease, EtcdMaintenance
from metropolis.base.errors import MetropolisError, NotFoundError, OutOfRangeError, UnavailableError
from metropolis.consensus.etcd.errors import translate
from metropolis.consensus.etcd.messages import compare, key_value, operations, prefix_range
from metropolis.consensus.etcd.watch import HAS_LEADER, open_watch
from metropolis.consensus.store import (
    Compare,
    KeyValue,
    Operation,
    RangeResult,
    StoreStatus,
    TransactionResult,
    Watch,
)
from metropolis.rpc.channel import Channel

# etcd waits 5 s plus two elections for a proposal that it sent to a leader that is dead by now. A
# new leader stands within two elections of 1 s, so who gives up earlier gets through earlier.
CALL_TIMEOUT_S = 4.0

# Rewriting a database file of 100 MiB takes a slow disk about that long.
SCRUB_TIMEOUT_S = 60.0

# A channel takes messages up to 4 MiB; what we store under one key stays well below 8 KiB.
PAGE_KEYS = 500

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


async def call_quorum(
    channel: Channel, method: Method[Req, Res], request: Req, *, timeout_s: float
) -> Res:
    """Make a call that needs a quorum; errors are ours."""
    try:
        return await channel.call(method, request, timeout_s=timeout_s, metadata=HAS_LEADER)
    except MetropolisError as cause:
        raise translate(cause) from cause


class EtcdStore:
    """See `metropolis.consensus.store.Store`."""

    def __init__(self, channel: Channel, *, timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._channel = channel
        self._timeout_s = timeout_s

    async def get(self, key: bytes) -> KeyValue | None:
        response = await self._call(EtcdKv.RANGE, pb.RangeRequest(key=key))
        return key_value(response.kvs[0]) if response.kvs else None

    async def range(self, prefix: bytes, *, limit: int = 0, keys_only: bool = False) -> RangeResult:
        start, end = prefix_range(prefix)
        items: list[KeyValue] = []
        revision = 0  # of the first page; later pages are read as of then
        while True:
            wanted = min(limit - len(items), PAGE_KEYS) if limit else PAGE_KEYS
            request = pb.RangeRequest(
                key=start, range_end=end, limit=wanted, keys_only=keys_only, revision=revision
            )
            response = await self._call(EtcdKv.RANGE, request)
            items += map(key_value, response.kvs)
            revision = revision or response.header.revision
            if not response.more or (limit and len(items) >= limit):
                return RangeResult(revision=revision, items=tuple(items))
            start = items[-1].key + b"\0"

    async def get_local(self, key: bytes) -> KeyValue | None:
        request = pb.RangeRequest(key=key, serializable=True)
        try:
            response = await self._channel.call(  # without HAS_LEADER: it answers without quorum
                EtcdKv.RANGE, request, timeout_s=self._timeout_s
            )
        except MetropolisError as cause:
            raise translate(cause) from cause
        return key_value(response.kvs[0]) if response.kvs else None

    async def page(
        self, prefix: bytes, *, after: bytes = b"", revision: int, limit: int
    ) -> RangeResult:
        start, end = prefix_range(prefix)
        if after:
            start = max(start, after + b"\0")
        items: list[KeyValue] = []
        while len(items) < limit:
            wanted = min(limit - len(items), PAGE_KEYS)
            request = pb.RangeRequest(key=start, range_end=end, limit=wanted, revision=revision)
            response = await self._call(EtcdKv.RANGE, request)
            items += map(key_value, response.kvs)
            if not response.more:
                break
            start = items[-1].key + b"\0"
        return RangeResult(revision=revision, items=tuple(items))

    async def transact(
        self,
        compares: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
    ) -> TransactionResult:
        request = pb.TxnRequest(
            compare=map(compare, compares),
            success=operations(success),
            failure=operations(failure),
        )
        response = await self._call(EtcdKv.TXN, request)
        return TransactionResult(
            succeeded=response.succeeded,
            revision=response.header.revision,
            ranges=tuple(
                tuple(map(key_value, answer.response_range.kvs))
                for answer in response.responses
                if answer.HasField("response_range")
            ),
        )

    def watch(self, prefix: bytes, *, start_revision: int) -> AbstractAsyncContextManager[Watch]:
        return open_watch(
            self._channel, prefix, start_revision=start_revision, timeout_s=self._timeout_s
        )

    async def grant_lease(self, ttl_s: int) -> int:
        response = await self._call(EtcdLease.LEASE_GRANT, pb.LeaseGrantRequest(TTL=ttl_s))
        return response.ID

    async def keep_lease_alive(self, lease_id: int) -> int:
        request = pb.LeaseKeepAliveRequest(ID=lease_id)
        try:
            async with self._channel.open(
                EtcdLease.LEASE_KEEP_ALIVE, timeout_s=self._timeout_s, metadata=HAS_LEADER
            ) as stream:
                await stream.send(request)
                response = await stream.receive()
        except MetropolisError as cause:
            raise translate(cause) from cause
        if response is None:
            raise UnavailableError("the consensus ended the renewal", remedy="Retry.")
        return response.TTL

    async def revoke_lease(self, lease_id: int) -> None:
        try:
            await self._call(EtcdLease.LEASE_REVOKE, pb.LeaseRevokeRequest(ID=lease_id))
        except NotFoundError:
            return  # gone is what was asked for

    async def compact(self, revision: int) -> None:
        try:
            await self._call(EtcdKv.COMPACT, pb.CompactionRequest(revision=revision))
        except OutOfRangeError as error:
            if "future" in str(error):
                raise

    async def scrub(self, revision: int) -> bool:
        request = pb.CompactionRequest(revision=revision, physical=True)
        try:
            await call_quorum(self._channel, EtcdKv.COMPACT, request, timeout_s=SCRUB_TIMEOUT_S)
        except OutOfRangeError as error:
            if "future" in str(error):
                raise
            return False
        await self.defragment()
        return True

    async def defragment(self) -> None:
        try:
            await self._channel.call(
                EtcdMaintenance.DEFRAGMENT, pb.DefragmentRequest(), timeout_s=SCRUB_TIMEOUT_S
            )
        except MetropolisError as cause:
            raise translate(cause) from cause

    async def disarm(self) -> None:
        own = (await self.status()).member_id
        request = pb.AlarmRequest(action=pb.AlarmRequest.DEACTIVATE, memberID=own, alarm=pb.NOSPACE)
        await self._call(EtcdMaintenance.ALARM, request)

    async def status(self) -> StoreStatus:
        try:
            response = await self._channel.call(  # without HAS_LEADER: it answers without quorum
                EtcdMaintenance.STATUS, pb.StatusRequest(), timeout_s=self._timeout_s
            )
        except MetropolisError as cause:
            raise translate(cause) from cause
        return StoreStatus(
            revision=response.header.revision,
            raft_term=response.raftTerm,
            raft_index=response.raftIndex,
            member_id=response.header.member_id,
            leader_id=response.leader,
            is_learner=response.isLearner,
            database_bytes=response.dbSize,
            errors=tuple(response.errors),
        )

    async def _call(self, method: Method[Req, Res], request: Req) -> Res:
        return await call_quorum(self._channel, method, request, timeout_s=self._timeout_s)
