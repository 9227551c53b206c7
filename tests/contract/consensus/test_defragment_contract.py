# SPDX-License-Identifier: Apache-2.0
"""A store that has filled itself with history takes writes again, in whatever state it is."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from contract.consensus.conftest import EtcdProcesses, poll_until_answers
from metropolis.api.introspection_pb2 import DefragmentRequest
from metropolis.base.errors import FailedPreconditionError, ResourceExhaustedError
from metropolis.consensus.etcd.membership import EtcdMembership
from metropolis.consensus.etcd.store import EtcdStore
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.store import Membership, Put, Store
from metropolis.host.linux.clock import LinuxClock
from metropolis.node.management.upkeep import UpkeepService
from metropolis.rpc.grpc import dial_unix
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.supervision import Logger, LogTree, Value

Run = Callable[[Callable[[Store, Membership], Awaitable[None]]], None]
ANN = Peer(kind=PeerKind.USER, identity="ann", public_key=bytes(32))
QUOTA_BYTES = 4 << 20
VALUE = bytes(64 << 10)


def log() -> Logger:
    return LogTree(clock=LinuxClock()).leveled("nodemgmt")


async def fill(store: Store) -> None:
    while True:
        await store.transact([], [Put(b"/one", VALUE)])


def test_a_member_that_has_room_can_be_defragmented_any_time(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        await store.transact([], [Put(prefix + b"a", b"1")])
        await store.defragment()
        await store.disarm()
        found = await store.get(prefix + b"a")
        assert found is not None
        assert found.value == b"1"

    run(scenario)


def test_a_full_store_takes_writes_again_once_its_member_was_defragmented(
    etcd_processes: EtcdProcesses,
) -> None:
    async def main() -> None:
        channel = dial_unix(etcd_processes.start("only", quota_bytes=QUOTA_BYTES))
        try:
            store = EtcdStore(channel)
            await poll_until_answers(store)
            with pytest.raises(ResourceExhaustedError, match="is full"):
                await fill(store)
            with pytest.raises(ResourceExhaustedError):
                await store.grant_lease(5)  # nobody could be elected now
            member = ConsensusStatus(store=store, membership=EtcdMembership(channel), member_id=1)
            service = UpkeepService(Value(member), log(), "metropolis-1")
            for _ in range(2):  # the second time there is nothing to do
                done = await service.defragment(DefragmentRequest(), ANN)
                assert done.after_bytes < QUOTA_BYTES // 4
                assert not done.complaint
            await store.transact([], [Put(b"/two", VALUE)])
            await store.grant_lease(5)
        finally:
            await channel.close()

    asyncio.run(main())


def test_a_node_without_a_member_has_nothing_to_defragment() -> None:
    async def main() -> None:
        with pytest.raises(FailedPreconditionError):
            await UpkeepService(Value(None), log(), "n").defragment(DefragmentRequest(), ANN)

    asyncio.run(main())
