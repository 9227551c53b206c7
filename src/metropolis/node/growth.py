# SPDX-License-Identifier: Apache-2.0
"""Looks after the room on the data partition."""

import asyncio
from typing import Final

from metropolis.node.partition import DataPartition
from metropolis.supervision import Context

LOOK_S: Final = 1.0


async def keep_room(ctx: Context, *, partition: DataPartition) -> None:
    """Have the partition's file system grow before it is full."""
    ctx.healthy()
    while True:
        done = await partition.grow()
        if done:
            ctx.log.info("%s", done)
        await asyncio.sleep(LOOK_S)
