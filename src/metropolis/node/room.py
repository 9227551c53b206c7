# SPDX-License-Identifier: Apache-2.0
"""Looks after the room on the data partition: lets it grow, keeps a reserve, says when it is full.

etcd ends when it cannot write, and it does not start without writing either. So the partition holds
a reserve, a file of zeros that takes room and holds nothing. It is given up when the disk is full
and the consensus member did not survive that: the member then starts again, and there is room for
what makes room (`metropolis.cluster.planner.room`). When that has helped, the reserve is made anew.

    reserve kept ──disk full, member down──▶ given up: an empty file ──room again──▶ kept
         └─────disk full ─────room again─────┘

While the disk is full, or the reserve is not there yet again, `is_full` is set, also after a
restart: the file says so. A disk that is too small for a reserve has none.
"""

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from metropolis.base.errors import ResourceExhaustedError
from metropolis.cluster.planner.room import FULL_BYTES, REMEDY, summary
from metropolis.node.partition import DataPartition, Room
from metropolis.supervision import Context, Value

LOOK_S: Final = 1.0
# A segment of etcd's log, a step of its database, and what the file system wants for itself.
RESERVE_BYTES: Final = 128 << 20
AMPLE_BYTES: Final = 4 * RESERVE_BYTES  # free on a disk that is large enough for a reserve
ENOUGH_BYTES: Final = 2 * FULL_BYTES  # free, where full is over; more, so that it does not flap
DOWN_S: Final = 3.0  # a member that was down for so long does not survive the full disk


class Step(Enum):
    """What to do with the reserve."""

    NOTHING = auto()
    MAKE = auto()
    GIVE_UP = auto()


def decide(room: Room, *, was_full: bool, is_member_down: bool) -> tuple[bool, Step]:
    """Return whether the disk is full, and what to do about it. Pure."""
    free_bytes, reserve_bytes = room.free_bytes, room.reserve_bytes
    if reserve_bytes == 0:  # given up
        has_room = free_bytes >= RESERVE_BYTES + ENOUGH_BYTES
        return not has_room, Step.MAKE if has_room else Step.NOTHING
    if free_bytes < (ENOUGH_BYTES if was_full else FULL_BYTES):
        gives_up = is_member_down and reserve_bytes is not None
        return True, Step.GIVE_UP if gives_up else Step.NOTHING
    is_wanted = reserve_bytes is None and free_bytes >= AMPLE_BYTES
    return False, Step.MAKE if is_wanted else Step.NOTHING


async def keep_room(
    ctx: Context,
    *,
    partition: DataPartition,
    has_member: Callable[[], bool],
    is_full: Value[bool],
) -> None:
    """Look every second.

    Args:
        has_member: Whether this node's consensus member votes and answers.
        is_full: Set when that changes.
    """
    ctx.healthy()
    down_s = 0.0
    while True:
        done = await partition.grow()
        if done:
            ctx.log.info("%s", done)
        down_s = 0.0 if has_member() else down_s + LOOK_S
        room = await partition.room()
        if room is not None:
            now_full, step = decide(room, was_full=is_full.current, is_member_down=down_s >= DOWN_S)
            if now_full and not is_full.current:
                ctx.log.error("%s %s", summary(room.free_bytes), REMEDY)
            elif is_full.current and not now_full:
                ctx.log.info("There is room on the disk again: %d MiB", room.free_bytes >> 20)
            if now_full != is_full.current:
                is_full.set(now_full)
            await _take(ctx, step, partition)
        await asyncio.sleep(LOOK_S)


async def _take(ctx: Context, step: Step, partition: DataPartition) -> None:
    if step is Step.GIVE_UP:
        ctx.log.warning("Giving the reserve of %d MiB up", RESERVE_BYTES >> 20)
        await partition.set_reserve(0)
    elif step is Step.MAKE:
        try:
            await partition.set_reserve(RESERVE_BYTES)
        except ResourceExhaustedError as error:  # somebody was faster
            ctx.log.warning("No reserve yet: %s", error)
        else:
            ctx.log.info("Keeping %d MiB in reserve", RESERVE_BYTES >> 20)
