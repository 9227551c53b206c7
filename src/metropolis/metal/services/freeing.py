# SPDX-License-Identifier: Apache-2.0
"""Giving machines back, and installing them again."""

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.model.event import Event
from metropolis.metal.model.image import IMAGES
from metropolis.metal.model.ipmi import CONSOLE_PASSWORDS
from metropolis.metal.model.machine import MACHINES, Machine
from metropolis.metal.model.machine_request import MachineReinstallRequest
from metropolis.metal.model.message import Command, command_event, deletion_event
from metropolis.metal.model.remembered_allocation import REMEMBERED_ALLOCATIONS
from metropolis.metal.rules.life_cycle import give_back, install_again
from metropolis.metal.services.connections import set_machine_vrf
from metropolis.metal.services.events import record_event
from metropolis.metal.services.machine_networks import detach_machine
from metropolis.metal.services.machines import put, tell_partition
from metropolis.metal.services.size_image_constraints import check
from metropolis.metal.store import Stored, Transaction


def vrf_of(machine: Machine) -> str:
    """The VRF that the ports of an installed machine are in."""
    allocation = machine.allocation
    if allocation is None:
        return ""
    if allocation.role == "firewall":
        return "default"
    primary = next((each for each in allocation.networks if each.primary), None)
    return "" if primary is None else f"vrf{primary.vrf}"


async def free(tx: Transaction, machine_id: str) -> Stored[Machine]:
    """Take a machine back: it boots anew, and what it had of addresses and numbers is free.

    A machine that is nobody's is only told to boot anew.

    Raises:
        FailedPreconditionError: it is locked.
    """
    machine = await tx.get(MACHINES, machine_id)
    value = machine.value
    freed = give_back(value)
    await tell_partition(tx, value, command_event(machine_id, Command.LED_OFF))
    await set_machine_vrf(tx, machine_id, "")
    await tell_partition(tx, value, deletion_event(machine_id))
    networks = () if value.allocation is None else value.allocation.networks
    await detach_machine(tx, machine_id, networks)
    password = await tx.lookup(CONSOLE_PASSWORDS, machine_id)
    if password is not None:
        await tx.delete(password)
    for memory in await tx.find(REMEMBERED_ALLOCATIONS, {"machine": machine_id}):
        await tx.delete(memory)
    changed = await put(tx, machine, freed)
    await record_event(tx, machine_id, Event.MACHINE_RECLAIM, "free machine called")
    return changed


async def reinstall(tx: Transaction, request: MachineReinstallRequest) -> Stored[Machine]:
    """Install an allocated machine again, with this image.

    Raises:
        NotFoundError: there is no such machine or image.
        InvalidArgumentError: it is not one that can be installed again.
    """
    machine = await tx.get(MACHINES, request.id)
    value = machine.value
    again = install_again(
        value, image_id=request.image_id, name=request.name, description=request.description
    )
    image = await tx.get(IMAGES, request.image_id)
    if again.allocation is not None and again.allocation.role not in image.value.features:
        raise InvalidArgumentError(
            f"imageid: {image.id} cannot be used for a {again.allocation.role}",
            remedy=f"Choose an image with the feature {again.allocation.role}.",
        )
    await check(tx, value.size_id, image)
    await set_machine_vrf(tx, request.id, "")
    changed = await put(tx, machine, again)
    # Announced first: a machine that boots out of the blue is one that crashed.
    await record_event(tx, request.id, Event.PLANNED_REBOOT, Command.REINSTALL)
    await tell_partition(tx, value, deletion_event(request.id))
    await tell_partition(tx, value, command_event(request.id, Command.REINSTALL))
    return changed
