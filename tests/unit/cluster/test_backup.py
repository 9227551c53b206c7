# SPDX-License-Identifier: Apache-2.0
"""Backups as a leader makes them, and a cluster that comes back from one."""

import asyncio
from contextlib import suppress

import pytest

from metropolis.api import backup_pb2 as wire
from metropolis.base.errors import (
    AlreadyExistsError,
    DataLossError,
    DeadlineExceededError,
    FailedPreconditionError,
)
from metropolis.cluster.backup.desk import BackupDesk, DeskEdges
from metropolis.cluster.backup.maker import stored_records
from metropolis.cluster.backup.restore import restore_cluster
from metropolis.cluster.services import backup as service
from metropolis.cluster.state import backups, keys, pki
from metropolis.cluster.state.bootstrap import BootstrapRequest
from metropolis.cluster.state.fenced import FencedStore
from metropolis.consensus.memory.client import MemoryStore
from metropolis.consensus.memory.cluster import MemoryCluster
from metropolis.consensus.store import Put
from metropolis.formats.backup.file import BackupWriter
from metropolis.formats.backup.sealing import public_key_of
from metropolis.host.sim.entropy import SimEntropy
from metropolis.pki.certificates import serial_number
from metropolis.pki.keys import generate_key
from unit.cluster.backup_kit import NEWER, OLD, RECOVERY, Scheduled, create, opened, register_key
from unit.cluster.harness import FIRST, OWNER, Bench, bootstrap_request, machine, run

OTHER_RECOVERY = b"\x08" * 32
SECOND, NEW = machine(2), machine(9)


def new_hardware() -> BootstrapRequest:
    return BootstrapRequest(
        node_public_key=NEW.key,
        join_public_key=NEW.join_key,
        owner_public_key=bytes(32),
        configuration=bootstrap_request().configuration,
        tpm_usage=bootstrap_request().tpm_usage,
        cluster_unlock_key=NEW.unlock_key,
    )


def test_a_backup_holds_every_key_but_elections() -> None:
    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        await bench.enrol(SECOND)
        content = await opened(await create(bench))
        stored = {item.key: item.value for item in (await bench.store.range(b"")).items}
        del stored[keys.LEADER + b"1"]
        assert {each.key: each.value for each in content.records} == stored
        assert set(content.nodes) == {FIRST.node_id, SECOND.node_id}
        assert content.header.generation == 1

    run(scenario)


def test_a_backup_is_of_one_revision_while_others_write() -> None:
    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        for number in range(600):
            await bench.store.transact([], [Put(b"x/%04d" % number, OLD)])
        written = 0

        async def write_on() -> None:
            nonlocal written
            for number in range(600):
                await bench.store.transact([], [Put(b"x/%04d" % number, NEWER)])
                written = number
                await asyncio.sleep(0.001)

        received = bytearray()

        async def slow(piece: bytes) -> None:
            await asyncio.sleep(0.1)
            received.extend(piece)

        writer = bench.group.create_task(write_on())
        await asyncio.sleep(0.01)
        await bench.leader.backups.make(slow)
        assert written > 300, "the writer overtook the reader"
        writer.cancel()
        content = await opened(bytes(received))
        found = [each.value for each in content.records if each.key.startswith(b"x/")]
        assert 0 < found.count(NEWER) < 300
        assert found == [NEWER] * found.count(NEWER) + [OLD] * found.count(OLD)

    run(scenario)


def test_without_a_recovery_key_there_is_no_backup() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(FailedPreconditionError, match="no recovery key"):
            await create(bench)
        with pytest.raises(FailedPreconditionError, match="no recovery key"):
            await bench.leader.backups.set_schedule(interval_s=3600, keep=3)

    run(scenario)


def test_a_recovery_key_is_replaced_only_on_purpose() -> None:
    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        await register_key(bench)
        with pytest.raises(AlreadyExistsError):
            await register_key(bench, OTHER_RECOVERY)
        await service.set_recovery_key(
            bench.leader,
            wire.SetRecoveryKeyRequest(
                recovery_public_key=public_key_of(OTHER_RECOVERY), replace=True
            ),
            OWNER,
        )
        with pytest.raises(FailedPreconditionError, match="encrypted to recovery key"):
            await opened(await create(bench))

    run(scenario)


def test_backups_at_the_same_time_have_different_generations() -> None:
    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(create(bench)) for _ in range(4)]
        found = [(await opened(task.result())).header.generation for task in tasks]
        assert sorted(found) == [1, 2, 3, 4]

    run(scenario)


def empty_store() -> MemoryStore:
    cluster = MemoryCluster()
    return MemoryStore(cluster, cluster.bootstrap(name="empty", peer_url="unix://empty:0"))


def test_a_restored_cluster_keeps_ca_owner_and_configuration_and_forgets_its_nodes() -> None:
    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        await bench.enrol(SECOND)
        content = await opened(await create(bench))
        store = empty_store()
        made = await restore_cluster(
            store, content, new_hardware(), SimEntropy(5), known_generation=6
        )
        again = await restore_cluster(store, content, new_hardware(), SimEntropy(6))
        assert again == made
        assert made.ca_certificate == bench.born.ca_certificate
        assert made.configuration == bench.born.configuration
        found = {item.key: item.value for item in (await store.range(b"")).items}
        before = {each.key: each.value for each in content.records}
        for same in (
            keys.INITIAL_OWNER,
            keys.REGISTER_TICKET,
            backups.SETTINGS,
            pki.CLUSTER.key("cluster-ca"),
        ):
            assert found[same] == before[same]
        assert [key for key in found if key.startswith(keys.NODES)] == [keys.node(NEW.node_id)]
        assert [key for key in found if key.startswith(keys.JOIN_KEYS)] == [
            keys.join_key(NEW.join_key)
        ]
        old_names = [pki.CLUSTER.certificate(pki.node_name(each)) for each in content.nodes]
        revoked, _number = pki.read_crl(found[pki.CLUSTER.crl])
        assert {serial_number(before[name]) for name in old_names} <= set(revoked)
        assert not set(old_names) & set(found)
        consensus_ca = pki.CONSENSUS.certificate("CA")
        assert found[consensus_ca] != before[consensus_ca]
        state = wire.BackupState.FromString(found[backups.STATE])
        assert state.newest_generation == 6
        other = empty_store()
        await restore_cluster(other, content, new_hardware(), SimEntropy(5))
        counted = await other.get(backups.STATE)
        assert counted is not None
        assert wire.BackupState.FromString(counted.value).newest_generation == 1

    run(scenario)


def test_backups_of_different_desks_never_share_a_generation() -> None:
    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        made = Scheduled(bench)
        desks = [made.another_desk(bench) for _ in range(3)]

        async def sink(_piece: bytes) -> None:
            pass

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(desk.make(sink)) for desk in desks]
        assert sorted(task.result().header.generation for task in tasks) == [1, 2, 3]

    run(scenario)


def test_a_backup_that_another_key_than_the_cas_has_signed_is_refused() -> None:
    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        content = await opened(await create(bench))
        writer = BackupWriter(
            content.header, public_key=public_key_of(RECOVERY), ephemeral_secret=b"\x04" * 32
        )
        forged = bytearray(writer.beginning)
        for record in content.records:
            forged += b"".join(writer.record(record))
        forged += b"".join(writer.finish(generate_key(SimEntropy(77))))
        with pytest.raises(DataLossError, match="not signed"):
            await opened(bytes(forged))

    run(scenario)


def test_a_restore_that_was_killed_anywhere_is_done_again() -> None:
    class PowerCutError(Exception):
        pass

    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        for number in range(250):
            await bench.store.transact([], [Put(b"x/%04d" % number, bytes(100))])
        content = await opened(await create(bench))
        results = []
        for survives in range(6):
            store = empty_store()
            transact, left = store.transact, survives

            async def cut(*args: object, **more: object) -> object:
                nonlocal left
                left -= 1
                if left < 0:
                    raise PowerCutError
                return await transact(*args, **more)  # type: ignore[arg-type]  # noqa: B023

            store.transact = cut  # type: ignore[method-assign,assignment]
            with suppress(PowerCutError):
                await restore_cluster(store, content, new_hardware(), SimEntropy(5))
            store.transact = transact  # type: ignore[method-assign]
            await restore_cluster(store, content, new_hardware(), SimEntropy(5))
            results.append({item.key for item in (await store.range(b"")).items})
        assert all(result == results[0] for result in results)

    run(scenario)


def test_another_nodes_cluster_is_never_restored_over() -> None:
    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        content = await opened(await create(bench))
        with pytest.raises(FailedPreconditionError):
            await restore_cluster(bench.store, content, new_hardware(), SimEntropy(5))

    run(scenario)


def test_a_backup_whose_revision_was_compacted_meanwhile_says_so() -> None:
    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        for number in range(600):
            await bench.store.transact([], [Put(b"x/%04d" % number, OLD)])

        async def compact(_piece: bytes) -> None:
            revision = (await bench.store.transact([], [Put(b"y", b"")])).revision
            await bench.store.compact(revision)

        with pytest.raises(DeadlineExceededError, match="slowly"):
            await bench.leader.backups.make(compact)

    run(scenario)


def test_a_deposed_leader_makes_no_backup() -> None:
    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        await bench.depose()
        with pytest.raises(Exception, match="lost leadership"):
            await create(bench)

    run(scenario)


def test_a_backup_of_another_cluster_than_its_header_says_is_refused() -> None:
    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        made = Scheduled(bench)
        desk = BackupDesk(
            DeskEdges(
                store=bench.leader.store,
                clock=made.clock,
                entropy=bench.entropy,
                log=bench.leader.log,
                ca_fingerprint=bytes(32),
                shelf=None,
            )
        )
        received = bytearray()

        async def sink(piece: bytes) -> None:
            received.extend(piece)

        await desk.make(sink)
        with pytest.raises(DataLossError, match="its CA is another"):
            await opened(bytes(received))

    run(scenario)


def test_no_election_is_in_a_backup_whatever_it_hangs_on() -> None:
    async def scenario(bench: Bench) -> None:
        lease = await bench.store.grant_lease(60)
        await bench.store.transact([], [Put(b"y/leased", b"", lease)])
        revision = (await bench.store.transact([], [Put(b"y/kept", b"")])).revision
        fenced = FencedStore(bench.store, fence=None)
        found = [each.key async for each in stored_records(fenced, revision)]
        assert b"y/kept" in found
        assert b"y/leased" not in found
        assert not any(key.startswith(keys.LEADER) for key in found)

    run(scenario)
