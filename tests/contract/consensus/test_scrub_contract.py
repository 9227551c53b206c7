# SPDX-License-Identifier: Apache-2.0
"""What is deleted and scrubbed is gone: from history, and from the bytes on the disk."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from contract.consensus.conftest import EtcdProcesses, poll_until_answers
from metropolis.api.decommission_pb2 import ScrubRecord
from metropolis.base.ids import NodeId
from metropolis.cluster.scrub import keep_scrubbed
from metropolis.cluster.state import keys
from metropolis.consensus.etcd.store import EtcdStore
from metropolis.consensus.store import Delete, Membership, Put, Store, WatchCompactedError
from metropolis.host.linux.clock import LinuxClock
from metropolis.rpc.grpc import dial_unix
from metropolis.supervision import LogTree

Run = Callable[[Callable[[Store, Membership], Awaitable[None]]], None]
SECRET = b"Kx7-a-secret-of-some-length-which-nothing-else-contains-q9Zt"


def test_a_scrub_forgets_history_and_keeps_what_is(run: Run, prefix: bytes) -> None:
    async def scenario(store: Store, _: Membership) -> None:
        first = (await store.transact([], [Put(prefix + b"a", b"1")])).revision
        await store.transact([], [Put(prefix + b"b", b"2")])
        await store.transact([], [Delete(prefix + b"a")])
        last = (await store.transact([], [Put(prefix + b"b", b"3")])).revision
        assert await store.scrub(last)
        assert not await store.scrub(last)
        assert not await store.scrub(first)
        found = await store.range(prefix)
        assert [(item.key, item.value) for item in found.items] == [(prefix + b"b", b"3")]
        with pytest.raises(WatchCompactedError):
            async with store.watch(prefix, start_revision=first) as watch:
                await watch.receive()

    run(scenario)


def test_the_database_file_of_a_real_member_holds_no_scrubbed_secret(
    etcd_processes: EtcdProcesses, tmp_path: Path
) -> None:
    """As each member does when a leader orders it; without the order the bytes stay."""

    async def main() -> None:
        channel = dial_unix(etcd_processes.start("only"))
        try:
            store = EtcdStore(channel)
            await poll_until_answers(store)
            for number in range(50):  # over many pages, and overwritten in between
                await store.transact([], [Put(b"/secret%d" % (number % 7), SECRET)])
            for number in range(7):
                await store.transact([], [Put(b"/secret%d" % number, b"nothing")])
            (file,) = tmp_path.rglob("snap/db")
            async with asyncio.timeout(10):
                while SECRET not in file.read_bytes():  # noqa: ASYNC110  # a file tells nobody
                    await asyncio.sleep(0.05)
            order = ScrubRecord(order=1).SerializeToString()
            await store.transact([], [Put(keys.SCRUB_ORDER, order)])
            log = LogTree(clock=LinuxClock()).leveled("scrub")
            node_id = NodeId("metropolis-" + "0" * 32)
            async with asyncio.TaskGroup() as group:
                scrubbing = group.create_task(keep_scrubbed(store, node_id, log))
                async with asyncio.timeout(20):
                    while (done := await store.get(keys.scrub_answer(node_id))) is None or (  # noqa: ASYNC110
                        done.value != order
                    ):
                        await asyncio.sleep(0.05)
                scrubbing.cancel()
            assert SECRET not in file.read_bytes()
        finally:
            await channel.close()

    asyncio.run(main())
