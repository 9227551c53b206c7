# SPDX-License-Identifier: Apache-2.0
"""What tests of backups have in common: a recovery key, a desk with a shelf."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from random import Random

from metropolis.api import backup_pb2 as wire
from metropolis.cluster.backup.content import Content
from metropolis.cluster.backup.desk import BackupDesk, DeskEdges
from metropolis.cluster.backup.rehearsal import read_backup
from metropolis.cluster.backup.shelf import Shelf
from metropolis.cluster.services import backup as service
from metropolis.consensus.scratch import Scratch, memory_scratch
from metropolis.formats.backup.file import BackupReader
from metropolis.formats.backup.sealing import public_key_of
from metropolis.host.sim.clock import SimClock
from metropolis.host.sim.directory import SimDirectory
from metropolis.host.sim.disk import SimDisk
from unit.cluster.harness import OWNER, Bench, Call

RECOVERY = b"\x07" * 32
OLD, NEWER = b"old" * 700, b"new" * 700


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


class Scheduled:
    """A desk with a shelf, on a bench."""

    def __init__(self, bench: Bench, scratch: Scratch | None = None) -> None:
        self.directory = SimDirectory(SimDisk(Random(1)), mount_point="/disk")
        self.clock = SimClock()
        self.shelf = Shelf(self.directory, "data/backups")
        self.scratch = scratch or memory_scratch()
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
                scratch=self.scratch,
            )
        )

    async def generations(self) -> Sequence[int]:
        return [each.header.generation for each in await self.shelf.kept()]
