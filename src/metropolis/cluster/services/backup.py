# SPDX-License-Identifier: Apache-2.0
"""Backup: what operators ask of a leader about backups, and members about copies."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from metropolis.api import backup_pb2 as wire
from metropolis.base.errors import PermissionDeniedError
from metropolis.base.ids import NodeId
from metropolis.cluster.cache import NodeCache
from metropolis.cluster.leader import Leader
from metropolis.cluster.services.callers import calling_node
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
    await send_backup(stream, leader.backups.read)


async def send_backup(
    stream: ServerStream[wire.FetchBackupRequest, wire.BackupChunk],
    read: Callable[[int], AsyncGenerator[bytes, None]],
) -> None:
    """Send the backup that is asked for."""
    request = await stream.receive()
    assert request is not None
    async with aclosing(read(request.generation)) as pieces:
        async for piece in pieces:
            for start in range(0, len(piece), CHUNK_BYTES):
                await stream.send(wire.BackupChunk(data=piece[start : start + CHUNK_BYTES]))


async def compare_copies(
    leader: Leader, request: wire.CompareCopiesRequest, peer: Peer
) -> wire.CompareCopiesResponse:
    """Hear what a member holds, and tell it what there is. A leader has nothing to copy."""
    node_id = calling_node(peer)
    if node_id == leader.own.node_id:
        return wire.CompareCopiesResponse()
    _check_member(await leader.confirmed(), node_id)
    settings = (await leader.backups.facts()).settings
    leader.backups.hear(node_id, request.backups)
    return wire.CompareCopiesResponse(
        backups=await leader.backups.kept(), keep=settings.keep if settings.interval_s else 0
    )


async def fetch_copy(
    leader: Leader, stream: ServerStream[wire.FetchBackupRequest, wire.BackupChunk]
) -> None:
    """Send a backup that this node keeps to another member."""
    _check_member(await leader.confirmed(), calling_node(stream.peer))
    await send_backup(stream, leader.backups.read)


def _members(nodes: NodeCache) -> frozenset[str]:
    return frozenset(each.node_id for each in nodes.all() if each.roles.consensus_member)


def _check_member(nodes: NodeCache, node_id: NodeId) -> None:
    if node_id not in _members(nodes):
        raise PermissionDeniedError(
            "only consensus members keep copies of backups",
            remedy="Nothing has to be done: this node keeps none.",
        )


async def list_backups(
    leader: Leader, _request: wire.ListBackupsRequest, _peer: Peer
) -> wire.ListBackupsResponse:
    """List what this node keeps, and what others have said that they keep."""
    members = _members(await leader.confirmed())
    facts = await leader.backups.facts()
    return wire.ListBackupsResponse(
        backups=await leader.backups.everywhere(leader.own.node_id, members),
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
