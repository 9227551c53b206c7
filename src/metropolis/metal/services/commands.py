# SPDX-License-Identifier: Apache-2.0
"""Power, boot order and light of a machine: what a BMC agent shall do."""

from typing import Final

from metropolis.base.errors import FailedPreconditionError
from metropolis.metal.model.event import Event
from metropolis.metal.model.machine import MACHINES, LedState, LedValue, Machine
from metropolis.metal.model.message import Command, command_event
from metropolis.metal.services.events import record_event
from metropolis.metal.services.machines import change, tell_partition
from metropolis.metal.store import Stored, Transaction

# After which a machine starts anew: said before, so that nobody takes it for a crash.
REBOOTS: Final = frozenset({Command.RESET, Command.OFF, Command.CYCLE})


async def command(tx: Transaction, machine_id: str, order: Command) -> Stored[Machine]:
    """Have something done to a machine.

    Raises:
        FailedPreconditionError: nobody knows in which partition it is.
    """
    machine = await tx.get(MACHINES, machine_id)
    _check_reachable(machine.value)
    if order in REBOOTS:
        await record_event(tx, machine_id, Event.PLANNED_REBOOT, order.value)
    await tell_partition(tx, machine.value, command_event(machine_id, order))
    return machine


async def switch_led(
    tx: Transaction, machine_id: str, value: LedValue, *, description: str
) -> Stored[Machine]:
    """Switch the light by which people find a machine, and remember why."""
    machine = await tx.get(MACHINES, machine_id)
    _check_reachable(machine.value)
    led = LedState(value=value, description=description)
    changed = await change(tx, machine, ledstate=led)
    await tell_partition(tx, machine.value, command_event(machine_id, Command(value)))
    return changed


def _check_reachable(machine: Machine) -> None:
    if not machine.partition_id:
        raise FailedPreconditionError(
            f"machine {machine.id} is in no partition, so nobody can be told",
            remedy="Let the machine register, or let a BMC agent report it.",
        )
