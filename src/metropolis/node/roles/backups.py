# SPDX-License-Identifier: Apache-2.0
"""Keeps copies of the scheduled backups on this node's disk while it is a consensus member."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from metropolis.api import backup_pb2 as wire
from metropolis.api.rpc_backup import BackupCopies
from metropolis.base.errors import MetropolisError, chain
from metropolis.cluster.backup.copies import missing, take_copy
from metropolis.cluster.backup.shelf import Shelf
from metropolis.node.roles.edges import RoleEdges
from metropolis.rpc.channel import Channel
from metropolis.supervision import Context

LOOK_S: Final = 10.0
COPYING_S_MAX: Final = 600.0


async def backups(ctx: Context, *, edges: RoleEdges) -> None:
    """Compare this node's shelf with the leader's, again and again, and fetch what is missing."""
    await edges.wait_connection()
    ctx.healthy()
    last_problem = ""
    while True:
        await edges.consensus.wait_for(lambda now: now is not None)
        connection = await edges.wait_connection()
        problem = ""
        try:
            async with asyncio.timeout(COPYING_S_MAX):
                await _catch_up(ctx, connection.channel, edges.shelf)
        except MetropolisError as error:
            problem = chain(error)
        except OSError as error:
            problem = str(error) or f"not done within {COPYING_S_MAX:.0f} s"
        if problem and problem != last_problem:
            ctx.log.warning("Cannot copy scheduled backups: %s", problem)
        last_problem = problem
        await asyncio.sleep(LOOK_S)


async def _catch_up(ctx: Context, channel: Channel, shelf: Shelf) -> None:
    there = await _compare(channel, shelf)
    if not there.keep:
        return
    wanted = missing(await shelf.kept(), there.backups, keep=there.keep)
    for kept in wanted:
        generation = kept.header.generation
        async with shelf.lock, aclosing(_fetch(channel, generation)) as pieces:
            await take_copy(shelf, kept, pieces)
        ctx.log.info("Copied backup %d from the leader", generation)
    async with shelf.lock:
        await shelf.prune(there.keep)
    if wanted:
        await _compare(channel, shelf)  # so that the leader knows where copies are


async def _compare(channel: Channel, shelf: Shelf) -> wire.CompareCopiesResponse:
    request = wire.CompareCopiesRequest(backups=await shelf.kept())
    return await channel.call(BackupCopies.COMPARE, request)


async def _fetch(channel: Channel, generation: int) -> AsyncGenerator[bytes, None]:
    async with channel.open(BackupCopies.FETCH, timeout_s=COPYING_S_MAX) as stream:
        await stream.send(wire.FetchBackupRequest(generation=generation))
        await stream.end()
        while (chunk := await stream.receive()) is not None:
            yield chunk.data
