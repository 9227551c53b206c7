# SPDX-License-Identifier: Apache-2.0
"""Machines that wait for being allocated.

What they wait for is in the database, not in a stream: a waiter that dies, or a replica under it,
loses nothing.
"""

from metropolis.metal.model.machine import MACHINES
from metropolis.metal.rules.life_cycle import offer, withdraw
from metropolis.metal.services.machines import put
from metropolis.metal.store import Reader, Transaction


async def is_allocated(reader: Reader, machine_id: str) -> bool:
    """Tell whether a machine has to wait no longer.

    Raises:
        NotFoundError: it never registered.
    """
    return (await reader.get(MACHINES, machine_id)).value.allocation is not None


async def start_waiting(tx: Transaction, machine_id: str) -> bool:
    """Offer a machine for allocation, and tell whether it has to wait no longer.

    To be called again now and then: somebody else's end of waiting may have come in between.

    Raises:
        NotFoundError: it never registered.
    """
    machine = await tx.get(MACHINES, machine_id)
    await put(tx, machine, offer(machine.value))
    return machine.value.allocation is not None


async def stop_waiting(tx: Transaction, machine_id: str) -> None:
    """Offer a machine no longer; one that is allocated or gone does not care."""
    machine = await tx.lookup(MACHINES, machine_id)
    if machine is not None:
        await put(tx, machine, withdraw(machine.value))
