# SPDX-License-Identifier: Apache-2.0
"""Backups of a real etcd, rehearsed and restored in a real etcd."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

from contract.consensus.conftest import EtcdProcesses, poll_until_answers
from metropolis.base.ids import node_id_from_public_key
from metropolis.cluster.backup.content import is_of_old_hardware
from metropolis.cluster.backup.desk import BackupDesk, DeskEdges
from metropolis.cluster.backup.rehearsal import read_backup
from metropolis.cluster.backup.restore import restore_cluster
from metropolis.cluster.backup.shelf import Shelf
from metropolis.cluster.state import backups, keys, pki
from metropolis.cluster.state.bootstrap import BootstrapRequest
from metropolis.consensus.etcd.membership import EtcdMembership
from metropolis.consensus.etcd.store import EtcdStore
from metropolis.consensus.fetch.binary import etcd_binary
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.scratch import etcd_scratch
from metropolis.consensus.store import Put
from metropolis.formats.backup.file import BackupReader
from metropolis.formats.backup.sealing import public_key_of
from metropolis.host.linux.clock import LinuxClock
from metropolis.host.linux.machine import linux_host
from metropolis.host.sim.entropy import SimEntropy
from metropolis.rpc.grpc import dial_unix
from unit.cluster.harness import FIRST, Bench, bench_on, bootstrap_request, machine

RECOVERY = b"\x07" * 32
NEW = machine(9)
KEYS = 1200  # several pages, and several transactions of a restore


async def scheduled(bench: Bench, directory: Path) -> bytes:
    """Make a backup on schedule, with its rehearsal, while somebody writes."""
    host = linux_host(
        storage=directory / "storage",
        ephemeral=directory / "run",
        hosts_path=directory / "hosts",
        addresses=["127.0.0.1"],
    )
    desk = BackupDesk(
        DeskEdges(
            store=bench.leader.store,
            clock=LinuxClock(),
            entropy=bench.entropy,
            log=bench.leader.log,
            ca_fingerprint=hashlib.sha256(bench.born.ca_certificate).digest(),
            shelf=Shelf(host.storage, "backups"),
            scratch=etcd_scratch(
                host=host, binary=str(etcd_binary()), root="rehearsal", dial=dial_unix
            ),
        )
    )

    async def write_on() -> None:
        number = 0
        while True:
            number += 1
            await bench.store.transact([], [Put(b"busy", b"%d" % number)])

    await desk.set_recovery_key(public_key_of(RECOVERY), replace=False)
    writing = bench.group.create_task(write_on())
    running = bench.group.create_task(desk.run())
    await desk.set_schedule(interval_s=3600, keep=2)
    while not await desk.kept():  # the shelf tells nobody
        assert not desk.last_failure, desk.last_failure
        await asyncio.sleep(0.05)
    running.cancel()
    writing.cancel()
    assert [each.rehearsed_in for each in await desk.kept()] == ["etcd"]
    assert not await host.storage.exists("rehearsal"), "all keys of the cluster were in it"
    return b"".join([piece async for piece in desk.read(1)])


def test_a_cluster_goes_from_one_etcd_into_another(tmp_path: Path) -> None:
    processes = EtcdProcesses(tmp_path)

    async def pieces(data: bytes) -> AsyncIterator[bytes]:
        yield data

    async def main() -> None:
        async with asyncio.timeout(45), AsyncExitStack() as stack:
            channels = [dial_unix(processes.start(name)) for name in ("old", "new")]
            for channel in channels:
                stack.push_async_callback(channel.close)
                await poll_until_answers(EtcdStore(channel))
            old, new = map(EtcdStore, channels)
            membership = EtcdMembership(channels[0])
            status = ConsensusStatus(store=old, membership=membership, member_id=1)
            async with bench_on(status) as bench:
                for start in range(0, KEYS, 100):
                    batch = [Put(b"x/%06d" % (start + each), bytes(900)) for each in range(100)]
                    await old.transact([], batch)
                data = await scheduled(bench, tmp_path / "disk")
            content = await read_backup(pieces(data), BackupReader(private_key=RECOVERY))
            assert content.nodes == [FIRST.node_id]
            request = BootstrapRequest(
                node_public_key=NEW.key,
                join_public_key=NEW.join_key,
                owner_public_key=content.owner_public_key,
                configuration=content.configuration,
                tpm_usage=bootstrap_request().tpm_usage,
            )
            made = await restore_cluster(new, content, request, SimEntropy(5))
            assert made == await restore_cluster(new, content, request, SimEntropy(6))
            found = {item.key: item.value for item in (await new.range(b"")).items}
            changed = {pki.CLUSTER.crl, backups.STATE}
            kept = {
                each.key: each.value
                for each in content.records
                if not is_of_old_hardware(each.key) and each.key not in changed
            }
            assert kept.items() <= found.items()
            assert sum(key.startswith(b"x/") for key in found) == KEYS
            nodes = [key for key in found if key.startswith(keys.NODES)]
            assert nodes == [keys.node(node_id_from_public_key(NEW.key))]

    try:
        asyncio.run(main())
    finally:
        processes.kill_all()
