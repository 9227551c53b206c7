# SPDX-License-Identifier: Apache-2.0
"""When this boot has proven itself: the node is a member of its cluster again."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Final
from uuid import UUID

from metropolis.base.errors import MetropolisError, chain
from metropolis.formats.efi.load_option import FileOnPartition
from metropolis.host.linux.block_devices import FoundPartition
from metropolis.host.linux.watchdog import LinuxWatchdog
from metropolis.node.boot.board import Board
from metropolis.node.boot.handover import Handover
from metropolis.node.boot.userland import ESP
from metropolis.node.roles.edges import RoleEdges
from metropolis.node.slots.firmware import SlotKeeper, slot_of_partition
from metropolis.node.slots.kernels import mend_copy, slot_path
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


async def confirmation(
    ctx: Context, *, handover: Handover, board: Board, esp: FoundPartition
) -> None:
    """Wait until the node is a member again, then confirm the system that runs."""
    slot = running_slot(handover)
    board.system = f"slot {slot.value}"
    ctx.healthy()
    await wait_membership(board)
    board.is_confirmed = True
    if handover.watchdog is not None:
        handover.watchdog.disarm()
    if handover.slots is not None:
        work = partial(_confirm, handover.slots, esp)
        for told in await asyncio.get_running_loop().run_in_executor(None, work):
            ctx.log.info("%s", told)
    ctx.done()


def _confirm(slots: SlotKeeper, esp: FoundPartition) -> list[str]:
    """Have the firmware start this system from now on; return what is worth telling.

    In a thread: firmware is slow.
    """
    told: list[str] = []
    try:
        told.append(mend_copy(ESP, slots.slot, started_by_fallback=slots.is_fallback))
    except OSError as error:
        told.append(f"The kernel images on the ESP could not be compared: {error}")
    try:
        told.append(slots.confirm(_kernels(esp)).sentence)
    except MetropolisError as error:
        told.append(f"The firmware does not remember this system: {chain(error)}")
    return [sentence for sentence in told if sentence]


def _kernels(esp: FoundPartition) -> Mapping[Slot, FileOnPartition]:
    """Where the slots' kernel images are, as the firmware says it; without those of empty slots."""
    return {
        slot: FileOnPartition(
            partition_number=esp.number,
            first_lba=esp.first_byte // esp.sector_bytes,
            sectors=esp.size_bytes // esp.sector_bytes,
            partition_guid=UUID(esp.guid),
            path="\\" + slot_path(slot).replace("/", "\\"),
        )
        for slot in Slot
        if (ESP / slot_path(slot)).is_file()
    }


def running_slot(handover: Handover) -> Slot:
    """Return the slot that runs: as the firmware says, or by the partition of the root."""
    if handover.slots is not None:
        return handover.slots.slot
    return slot_of_partition(handover.system_partition.label) or Slot.A


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
