# SPDX-License-Identifier: Apache-2.0
"""Backups as a leader makes them, and a cluster that comes back from one."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import timedelta
from random import Random

import pytest
from typing_extensions import override

from metropolis.api import backup_pb2 as wire
from metropolis.base.errors import (
    AlreadyExistsError,
    DataLossError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from metropolis.cluster.backup.content import Content
from metropolis.cluster.backup.desk import BackupDesk, DeskEdges
from metropolis.cluster.backup.maker import stored_records
from metropolis.cluster.backup.rehearsal import read_backup, scratch_store
from metropolis.cluster.backup.restore import restore_cluster
from metropolis.cluster.backup.shelf import Place, Shelf
from metropolis.cluster.services import backup as service
from metropolis.cluster.state import backups, keys, pki
from metropolis.cluster.state.bootstrap import BootstrapRequest
from metropolis.cluster.state.fenced import FencedStore
from metropolis.consensus.store import KeyValue, Put
from metropolis.formats.backup.file import BackupReader
from metropolis.formats.backup.sealing import public_key_of
from metropolis.host.sim.clock import SimClock
from metropolis.host.sim.directory import SimDirectory
from metropolis.host.sim.disk import SimDisk
from metropolis.host.sim.entropy import SimEntropy
from metropolis.pki.certificates import serial_number
from unit.cluster.harness import FIRST, OWNER, Bench, Call, bootstrap_request, machine, run

RECOVERY = b"\x07" * 32
OTHER_RECOVERY = b"\x08" * 32
OLD, NEWER = b"old" * 700, b"new" * 700
SECOND, NEW = machine(2), machine(9)


async def register_key(bench: Bench, private_key: bytes = RECOVERY) -> None:
    request = wire.SetRecoveryKeyRequest(recovery_public_key=public_key_of(private_key))
    await service.set_recovery_key(bench.leader, request, OWNER)


async def create(bench: Bench) -> bytes:
    call: Call[wire.CreateBackupRequest, wire.BackupChunk] = Call(OWNER, wire.CreateBackupRequest())
    await service.create_backup(bench.leader, call)
    return b"".join(chunk.data for chunk in call.sent)


async def pieces_of(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 10_000):
        yield data[start : start + 10_000]


async def opened(data: bytes, private_key: bytes = RECOVERY) -> Content:
    return await read_backup(pieces_of(data), BackupReader(private_key=private_key))


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


@pytest.mark.parametrize(("interval_s", "keep"), [(1, 3), (3600, 0), (3600, 10_000), (10**9, 3)])
def test_an_impossible_schedule_is_refused(interval_s: int, keep: int) -> None:
    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        with pytest.raises(InvalidArgumentError):
            await bench.leader.backups.set_schedule(interval_s=interval_s, keep=keep)

    run(scenario)


def test_backups_at_the_same_time_have_different_generations() -> None:
    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(create(bench)) for _ in range(4)]
        found = [(await opened(task.result())).header.generation for task in tasks]
        assert sorted(found) == [1, 2, 3, 4]

    run(scenario)


def test_a_restored_cluster_keeps_ca_owner_and_configuration_and_forgets_its_nodes() -> None:
    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        await bench.enrol(SECOND)
        content = await opened(await create(bench))
        store = scratch_store()
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
            store = scratch_store()
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


class Scheduled:
    """A desk with a shelf, on a bench."""

    def __init__(self, bench: Bench) -> None:
        self.directory = SimDirectory(SimDisk(Random(1)), mount_point="/disk")
        self.clock = SimClock()
        self.shelf = Shelf(self.directory, "data/backups")
        self.desk = self.another_desk(bench)

    def another_desk(self, bench: Bench) -> BackupDesk:
        return BackupDesk(
            DeskEdges(
                store=bench.leader.store,
                clock=self.clock,
                entropy=bench.entropy,
                log=bench.leader.log,
                ca_fingerprint=hashlib.sha256(bench.born.ca_certificate).digest(),
                shelf=self.shelf,
            )
        )

    async def generations(self) -> Sequence[int]:
        return [each.header.generation for each in await self.shelf.kept()]


def test_a_schedule_makes_backups_rehearses_them_and_keeps_the_newest() -> None:
    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        made = Scheduled(bench)
        running = bench.group.create_task(made.desk.run())
        await made.desk.set_schedule(interval_s=3600, keep=2)
        await asyncio.sleep(60)
        assert await made.generations() == [1]
        await asyncio.sleep(3 * 3600 + 120)
        assert await made.generations() == [4, 3]
        data = b"".join([piece async for piece in made.desk.read(4)])
        content = await opened(data)
        assert content.header.generation == 4
        assert "rehearsed backup 4" in bench.log_text()
        with pytest.raises(NotFoundError):
            await anext(aiter(made.desk.read(1)))
        await made.desk.set_schedule(interval_s=0, keep=0)
        await asyncio.sleep(2 * 3600)
        assert await made.generations() == [4, 3]
        running.cancel()

    run(scenario)


def test_a_clock_that_went_back_stops_no_schedule() -> None:
    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        made = Scheduled(bench)
        running = bench.group.create_task(made.desk.run())
        await made.desk.set_schedule(interval_s=3600, keep=5)
        await asyncio.sleep(60)
        made.clock.step(timedelta(days=-300).total_seconds())
        await asyncio.sleep(60)
        assert await made.generations() == [2, 1]
        running.cancel()

    run(scenario)


def test_what_was_damaged_on_the_disk_is_not_kept() -> None:
    made: Scheduled

    class RottenPlace(Place):
        @override
        async def write(self, piece: bytes) -> None:
            rotten = bytearray(piece)
            rotten[len(piece) // 2] ^= 1
            await super().write(bytes(rotten))

    class RottenShelf(Shelf):
        @override
        async def begin(self, generation: int) -> Place:
            await super().begin(generation)
            return RottenPlace(made.directory, f"data/backups/{generation}")

    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        nonlocal made
        made = Scheduled(bench)
        made.shelf = RottenShelf(made.directory, "data/backups")
        desk = made.another_desk(bench)
        running = bench.group.create_task(desk.run())
        await desk.set_schedule(interval_s=3600, keep=5)
        await asyncio.sleep(30)
        assert await made.generations() == []
        assert not await made.directory.list("data/backups")
        assert "damaged" in desk.last_failure
        assert "damaged" in bench.log_text()
        running.cancel()

    run(scenario)


def test_the_rehearsal_notices_a_store_that_is_not_what_was_backed_up() -> None:
    class Forgetful(FencedStore):
        """Shows a key at the first reading only."""

        seen = False

        @override
        async def page(self, *, after: bytes, revision: int, limit: int) -> Sequence[KeyValue]:
            found = await super().page(after=after, revision=revision, limit=limit)
            if Forgetful.seen:
                return [item for item in found if item.key != keys.INITIAL_OWNER]
            Forgetful.seen = True
            return found

    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        made = Scheduled(bench)
        desk = BackupDesk(
            DeskEdges(
                store=Forgetful(bench.store, fence=None),
                clock=made.clock,
                entropy=bench.entropy,
                log=bench.leader.log,
                ca_fingerprint=hashlib.sha256(bench.born.ca_certificate).digest(),
                shelf=made.shelf,
            )
        )
        running = bench.group.create_task(desk.run())
        await desk.set_schedule(interval_s=3600, keep=5)
        await asyncio.sleep(30)
        assert "rehearsal failed" in desk.last_failure
        assert await made.generations() == []
        running.cancel()

    run(scenario)


def test_a_caller_who_does_not_read_keeps_neither_the_schedule_nor_others_waiting() -> None:
    async def scenario(bench: Bench) -> None:
        await register_key(bench)
        made = Scheduled(bench)
        running = bench.group.create_task(made.desk.run())

        async def never(_piece: bytes) -> None:
            await asyncio.Event().wait()

        async def sink(_piece: bytes) -> None:
            pass

        async def wait_stuck() -> None:
            with pytest.raises(DeadlineExceededError, match="slowly"):
                await made.desk.make(never)

        stuck = bench.group.create_task(wait_stuck())
        await asyncio.sleep(1)
        await made.desk.set_schedule(interval_s=3600, keep=2)
        await asyncio.sleep(30)
        assert len(await made.generations()) == 1
        next_one = bench.group.create_task(made.desk.make(sink))
        await stuck
        await next_one
        running.cancel()

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
