# SPDX-License-Identifier: Apache-2.0
"""What can be asked of a cluster about backups, and the files they are put into."""

import os
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from google.protobuf.message import Message

from metropolis.api import backup_pb2 as wire
from metropolis.api.methods import Method
from metropolis.api.rpc_backup import Backup
from metropolis.base.errors import FailedPreconditionError
from metropolis.ctl import files, nodes
from metropolis.ctl.connection import Cluster
from metropolis.formats.backup.header import Header, decode_header, header_bytes
from metropolis.rpc.channel import Channel

Req = TypeVar("Req", bound=Message)
Write = Callable[[bytes], None]


async def settings(channel: Channel, *, timeout_s: float) -> wire.BackupSettings:
    """Return recovery key and schedule."""
    request = wire.GetBackupSettingsRequest()
    return await channel.call(Backup.GET_BACKUP_SETTINGS, request, timeout_s=timeout_s)


async def listing(channel: Channel, *, timeout_s: float) -> wire.ListBackupsResponse:
    """Return what a schedule made, and which nodes hold it."""
    return await channel.call(Backup.LIST_BACKUPS, wire.ListBackupsRequest(), timeout_s=timeout_s)


async def set_recovery_key(
    channel: Channel, public_key: bytes, *, replace: bool, timeout_s: float
) -> None:
    """Have later backups encrypted to a key.

    Raises:
        AlreadyExistsError: there is another one, and it is not to be replaced.
    """
    request = wire.SetRecoveryKeyRequest(recovery_public_key=public_key, replace=replace)
    await channel.call(Backup.SET_RECOVERY_KEY, request, timeout_s=timeout_s)


async def set_schedule(
    channel: Channel, *, interval_s: int, keep: int, timeout_s: float
) -> wire.BackupSettings:
    """Have backups made regularly; 0: no more.

    Raises:
        InvalidArgumentError: out of range.
        FailedPreconditionError: there is no recovery key.
    """
    request = wire.SetScheduleRequest(interval_s=interval_s, keep=keep)
    return await channel.call(Backup.SET_SCHEDULE, request, timeout_s=timeout_s)


async def create(channel: Channel, path: Path, *, timeout_s: float) -> Header:
    """Have a backup made and write it to a new file; return what it is.

    Raises:
        FailedPreconditionError: there is no recovery key; or the file exists or cannot be written.
    """
    await settings(channel, timeout_s=timeout_s)  # finds the leader; what follows takes its time
    return await _download(channel, Backup.CREATE_BACKUP, wire.CreateBackupRequest(), path)


async def fetch(cluster: Cluster, generation: int, path: Path) -> Header:
    """Write a scheduled backup to a new file, from the leader or another that holds it.

    Raises:
        NotFoundError: nobody holds it.
        FailedPreconditionError: the file exists or cannot be written.
    """
    request = wire.FetchBackupRequest(generation=generation)
    found = await listing(cluster.channel, timeout_s=cluster.timeout_s)  # finds the leader, too
    holders: list[str] = []
    for each in found.backups:
        if each.header.generation == generation:
            holders += each.nodes
    if not holders or found.node_id in holders:
        return await _download(cluster.channel, Backup.FETCH_BACKUP, request, path)
    node = await nodes.find_node(cluster.channel, holders[0], timeout_s=cluster.timeout_s)
    async with cluster.dial_node(node) as channel:
        return await _download(channel, Backup.FETCH_BACKUP, request, path)


async def _download(
    channel: Channel, method: Method[Req, wire.BackupChunk], request: Req, path: Path
) -> Header:
    beginning = bytearray()
    header: Header | None = None

    async def pieces(write: Write) -> None:
        nonlocal header
        async with channel.open(method) as stream:
            await stream.send(request)
            await stream.end()
            while (chunk := await stream.receive()) is not None:
                if header is None:
                    beginning.extend(chunk.data)
                    length = header_bytes(beginning)
                    if length is not None and len(beginning) >= length:
                        header = decode_header(bytes(beginning[:length]))
                write(chunk.data)

    await write_new(path, pieces)
    assert header is not None, "a server that ends without an error has sent a whole backup"
    return header


async def write_new(path: Path, produce: Callable[[Write], Awaitable[None]]) -> None:
    """Write a new file, mode 0600, that exists only when it is whole and durable.

    Raises:
        FailedPreconditionError: it exists or cannot be written.
    """
    if path.exists():  # noqa: ASYNC240  # nothing else is going on meanwhile
        raise FailedPreconditionError(f"{path} exists already", remedy="Choose another name.")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, files.PRIVATE)
        try:
            with open(descriptor, "wb") as file:  # noqa: ASYNC230, PTH123  # a descriptor
                await produce(partial(_write_all, file))
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # unlike a rename, it never replaces
        finally:
            temporary.unlink()
    except OSError as cause:
        raise FailedPreconditionError(
            f"cannot write {path}: {cause.strerror or cause}",
            remedy="Correct that path or its permissions, or name another one.",
        ) from cause


def _write_all(file: BinaryIO, data: bytes) -> None:
    file.write(data)
