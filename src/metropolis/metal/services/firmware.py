# SPDX-License-Identifier: Apache-2.0
"""Firmware: for which boards it is kept, and having a machine updated.

Contents are in an object store, which no transaction can hold on to: what is said about them here
is judged before and after.
"""

from dataclasses import dataclass
from typing import Final

from metropolis.base.errors import FailedPreconditionError
from metropolis.metal.model.firmware import FirmwareKind
from metropolis.metal.model.ipmi import IPMIS, Ipmi
from metropolis.metal.model.machine import MACHINES, Machine
from metropolis.metal.model.message import (
    Command,
    EventType,
    FirmwareUpdate,
    MachineCommand,
    MachineEvent,
)
from metropolis.metal.rules.firmware import Firmware, firmware
from metropolis.metal.services.machines import tell_partition
from metropolis.metal.store import Reader, Stored, Transaction

URL_VALID_S: Final = 2 * 60 * 60  # a BMC agent may have to wait for the machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """What a machine's firmware depends on."""

    vendor: str
    board: str


async def board_of(reader: Reader, machine_id: str) -> Board:
    """Say which board a machine has.

    Raises:
        NotFoundError: there is no such machine.
        FailedPreconditionError: its BMC did not say.
    """
    await reader.get(MACHINES, machine_id)
    return _board(machine_id, await reader.lookup(IPMIS, machine_id))


def _board(machine_id: str, ipmi: Stored[Ipmi] | None) -> Board:
    vendor = "" if ipmi is None else ipmi.value.fru.board_mfg or ""
    board = "" if ipmi is None else ipmi.value.fru.board_part_number or ""
    if not vendor or not board:
        raise FailedPreconditionError(
            f"nobody knows vendor and part number of the board of machine {machine_id}",
            remedy="Let the machine register, or let the BMC agent of its partition report it.",
        )
    return Board(vendor=vendor, board=board)


async def check_board(reader: Reader, wanted: Firmware) -> None:
    """Refuse a firmware for a board that no machine has: it would be misspelled.

    Raises:
        FailedPreconditionError: no machine has it.
    """
    boards = [each.value.fru.board_part_number or "" for each in await reader.find(IPMIS)]
    if wanted.board not in {board.upper() for board in boards}:
        raise FailedPreconditionError(
            f"board: no machine has a board {wanted.board!r}",
            remedy="Name the board as the BMCs report it; `metalctl machine ipmi` shows them.",
        )


async def plan_update(
    reader: Reader, machine_id: str, kind: FirmwareKind, revision: str
) -> Firmware:
    """Name the firmware that a machine is to get.

    Raises:
        NotFoundError: there is no such machine.
        InvalidArgumentError: the revision cannot be one.
        FailedPreconditionError: its board is not known, nobody can be told, or it has that
            revision.
    """
    machine = (await reader.get(MACHINES, machine_id)).value
    ipmi = await reader.lookup(IPMIS, machine_id)
    board = _board(machine_id, ipmi)
    wanted = firmware(kind=kind, vendor=board.vendor, board=board.board, revision=revision)
    if not machine.partition_id:
        raise FailedPreconditionError(
            f"machine {machine_id} is in no partition, so nobody can be told",
            remedy="Let the machine register, or let a BMC agent report it.",
        )
    bmc_version = "" if ipmi is None else ipmi.value.bmc_version
    if revision == (machine.bios.version if kind == "bios" else bmc_version):
        raise FailedPreconditionError(
            f"machine {machine_id} has {kind} revision {revision} already",
            remedy="Name another revision.",
        )
    return wanted


async def send_update(
    tx: Transaction, machine_id: str, wanted: Firmware, *, url: str
) -> Stored[Machine]:
    """Have a machine updated from a URL.

    Raises:
        NotFoundError: there is no such machine.
        FailedPreconditionError: it is not any more as it was when this was planned.
    """
    kind: FirmwareKind = "bios" if wanted.kind == "bios" else "bmc"
    await plan_update(tx, machine_id, kind, wanted.revision)
    machine = await tx.get(MACHINES, machine_id)
    command = MachineCommand(
        target=machine_id,
        command=Command.UPDATE_FIRMWARE,
        firmware_update=FirmwareUpdate(kind=wanted.kind, url=url),
    )
    await tell_partition(tx, machine.value, MachineEvent(type=EventType.COMMAND, command=command))
    return machine
