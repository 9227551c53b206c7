# SPDX-License-Identifier: Apache-2.0
"""When this boot has proven itself: the node is a member of its cluster again."""

import asyncio
from typing import Final

from metropolis.base.errors import MetropolisError, chain
from metropolis.host.linux.watchdog import LinuxWatchdog
from metropolis.node.boot.board import Board
from metropolis.node.boot.handover import Handover
from metropolis.node.boot.userland import ESP
from metropolis.node.roles.edges import RoleEdges
from metropolis.node.slots.kernels import mend_copy
from metropolis.node.slots.model import Slot
from metropolis.supervision import Context

FEED_EVERY_S: Final = 10.0
TRY_S: Final = 600.0  # a system that is being tried has so long to prove itself


async def watchdog(ctx: Context, *, armed: LinuxWatchdog, patience_s: float | None = None) -> None:
    """Feed the watchdog until it is disarmed.

    Args:
        patience_s: After so long it is starved: for a system that is only tried. None: for ever,
            since a node may wait for a person, or for the others of its cluster.
    """
    ctx.healthy()
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    while armed.is_armed:
        if patience_s is not None and loop.time() - started_s > patience_s:
            ctx.log.error("This system was not confirmed in %.0f s: it is reset", patience_s)
            await ctx.wait_cancelled()
        armed.feed()
        await asyncio.sleep(FEED_EVERY_S)
    ctx.done()


async def confirmation(ctx: Context, *, handover: Handover, board: Board) -> None:
    """Wait until the node is a member again, then confirm the system that runs."""
    slot = running_slot(handover)
    board.system = f"slot {slot.value}"
    ctx.healthy()
    await wait_membership(board)
    loop = asyncio.get_running_loop()
    if handover.slots is not None:
        try:
            step = await loop.run_in_executor(None, handover.slots.confirm)
            if step.sentence:
                ctx.log.info("%s", step.sentence)
        except MetropolisError as error:
            ctx.log.warning("The firmware does not remember this system: %s", chain(error))
    board.is_confirmed = True
    if handover.watchdog is not None:
        handover.watchdog.disarm()
    try:
        mended = await loop.run_in_executor(None, _mend, slot, handover.slots is None)
        if mended:
            ctx.log.info("%s", mended)
    except OSError as error:
        ctx.log.warning("The kernel images on the ESP could not be compared: %s", error)
    ctx.done()


def running_slot(handover: Handover) -> Slot:
    """Return the slot that runs: as the firmware says, or by the partition of the root."""
    if handover.slots is not None:
        return handover.slots.slot
    return Slot.B if handover.system_partition.label.endswith("-B") else Slot.A


async def wait_membership(board: Board) -> RoleEdges:
    """Wait until a node of this machine has its roles and the leader has heard from it."""
    while True:
        edges = await board.roles.wait_for(lambda found: found is not None)
        assert edges is not None
        version = board.roles.version
        async with asyncio.TaskGroup() as group:
            membership = group.create_task(_is_member(edges))
            change = group.create_task(board.roles.wait_newer(version))
            await asyncio.wait((membership, change), return_when=asyncio.FIRST_COMPLETED)
            is_member = membership.done()
            membership.cancel()
            change.cancel()
        if is_member:
            return edges


async def _is_member(edges: RoleEdges) -> None:
    await edges.wait_identity()
    await edges.roles.wait_for(lambda roles: roles is not None)
    await edges.heartbeat_s.wait_for(lambda heard_s: heard_s is not None)


def _mend(slot: Slot, started_by_fallback: bool) -> str:
    return mend_copy(ESP, slot, started_by_fallback=started_by_fallback)
