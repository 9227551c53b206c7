# SPDX-License-Identifier: Apache-2.0
"""Backup: what operators ask of a leader about backups."""

from contextlib import aclosing
from typing import Final

from metropolis.api import backup_pb2 as wire
from metropolis.cluster.leader import Leader
from metropolis.rpc.channel import ServerStream
from metropolis.rpc.peer import Peer

CHUNK_BYTES: Final = 1 << 20  # well below what clients accept in one message


async def create_backup(
    leader: Leader, stream: ServerStream[wire.CreateBackupRequest, wire.BackupChunk]
) -> None:
    """Make a backup and send it as it is made."""
    await stream.receive()

    async def send(piece: bytes) -> None:
        for start in range(0, len(piece), CHUNK_BYTES):
            await stream.send(wire.BackupChunk(data=piece[start : start + CHUNK_BYTES]))

    await leader.backups.make(send)


async def fetch_backup(
    leader: Leader, stream: ServerStream[wire.FetchBackupRequest, wire.BackupChunk]
) -> None:
    """Send a backup that this node keeps."""
    request = await stream.receive()
    assert request is not None
    async with aclosing(leader.backups.read(request.generation)) as pieces:
        async for piece in pieces:
            for start in range(0, len(piece), CHUNK_BYTES):
                await stream.send(wire.BackupChunk(data=piece[start : start + CHUNK_BYTES]))


async def list_backups(
    leader: Leader, _request: wire.ListBackupsRequest, _peer: Peer
) -> wire.ListBackupsResponse:
    """List what this node keeps."""
    facts = await leader.backups.facts()
    return wire.ListBackupsResponse(
        backups=await leader.backups.kept(),
        node_id=leader.own.node_id,
        newest_generation=facts.newest_generation,
        last_failure=leader.backups.last_failure,
    )


async def get_backup_settings(
    leader: Leader, _request: wire.GetBackupSettingsRequest, _peer: Peer
) -> wire.BackupSettings:
    """Return recovery key and schedule."""
    return (await leader.backups.facts()).settings


async def set_recovery_key(
    leader: Leader, request: wire.SetRecoveryKeyRequest, _peer: Peer
) -> wire.BackupSettings:
    """Encrypt to another key from now on."""
    return await leader.backups.set_recovery_key(
        request.recovery_public_key, replace=request.replace
    )


async def set_schedule(
    leader: Leader, request: wire.SetScheduleRequest, _peer: Peer
) -> wire.BackupSettings:
    """Make backups regularly, or not any more."""
    return await leader.backups.set_schedule(interval_s=request.interval_s, keep=request.keep)
