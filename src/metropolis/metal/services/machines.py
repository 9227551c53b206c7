# SPDX-License-Identifier: Apache-2.0
"""Machines: how they begin, what an operator changes about them, how they end."""

import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec

from metropolis.base.errors import AbortedError, FailedPreconditionError, InvalidArgumentError
from metropolis.metal.model.event import EVENT_HISTORIES, EVENTS
from metropolis.metal.model.hardware import Bios, Hardware
from metropolis.metal.model.ipmi import CONSOLE_PASSWORDS, IPMIS
from metropolis.metal.model.machine import MACHINES, LedState, Machine, MachineState
from metropolis.metal.model.machine_request import MachineStateRequest, MachineUpdateRequest
from metropolis.metal.model.message import MachineEvent, machine_topic
from metropolis.metal.rules.allocation import parse_ssh_keys, with_system_tags
from metropolis.metal.rules.life_cycle import set_aside
from metropolis.metal.services.connections import disconnect_machine
from metropolis.metal.store import Kind, Reader, Store, Stored, Transaction

ResultT = TypeVar("ResultT")

ATTEMPTS: Final = 8  # events of a machine go on beside whatever else is done to it
_MACHINE_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")


async def write_again(
    store: Store, change: Callable[[Transaction], Awaitable[ResultT]], *, serial: bool = True
) -> ResultT:
    """Run a change that reads whatever it decides by; once more when it lost a race.

    Raises:
        AbortedError: it lost too often.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return await store.write(change, serial=serial)
        except AbortedError:
            continue
    return await store.write(change, serial=serial)


def check_machine_id(machine_id: str) -> None:
    """Refuse what no machine is called.

    Raises:
        InvalidArgumentError: it is not spelled like the UUID of a machine.
    """
    if _MACHINE_ID.fullmatch(machine_id) is None:
        raise InvalidArgumentError(
            f"{machine_id[:64]!r} is no machine id", remedy="Use the UUID of its system board."
        )


def empty_machine(machine_id: str, *, partition_id: str, now: datetime) -> Machine:
    """A machine of which nothing is known but that it exists.

    Raises:
        InvalidArgumentError: no machine is called so.
    """
    check_machine_id(machine_id)
    return Machine(
        id=machine_id,
        partition_id=partition_id,
        size_id="",
        image_id="",
        waiting=False,
        created=now,
        changed=now,
        hardware=Hardware(),
        bios=Bios(),
        state=MachineState(),
        ledstate=LedState(),
        tags=(),
    )


async def ensure_machine(
    tx: Transaction, machine_id: str, *, partition_id: str = ""
) -> Stored[Machine]:
    """Return a machine, making it known when nobody heard of it before."""
    found = await tx.lookup(MACHINES, machine_id)
    if found is not None:
        return found
    machine = empty_machine(machine_id, partition_id=partition_id, now=tx.now)
    return await tx.insert(MACHINES, machine_id, machine)


async def put(tx: Transaction, machine: Stored[Machine], value: Machine) -> Stored[Machine]:
    """Write what became of a machine: the one way in which machines change."""
    if value is machine.value:
        return machine
    return await tx.replace(machine, msgspec.structs.replace(value, changed=tx.now))


async def change(tx: Transaction, machine: Stored[Machine], **changes: Any) -> Stored[Machine]:  # noqa: ANN401  # any attribute
    """Write a machine with other attributes."""
    return await put(tx, machine, msgspec.structs.replace(machine.value, **changes))


async def tell_partition(tx: Transaction, machine: Machine, event: MachineEvent) -> None:
    """Send a message to the partition of a machine; nobody can be told of one without."""
    if machine.partition_id:
        await tx.send(machine_topic(machine.partition_id), event)


async def chassis_serial(reader: Reader, machine_id: str) -> str:
    """The serial number of the chassis that a machine is in, empty when nobody knows."""
    ipmi = await reader.lookup(IPMIS, machine_id)
    return "" if ipmi is None else ipmi.value.fru.chassis_part_serial or ""


async def set_state(
    tx: Transaction, machine_id: str, request: MachineStateRequest, *, issuer: str
) -> Stored[Machine]:
    """Reserve, lock or release a machine.

    Raises:
        InvalidArgumentError: no reason is given.
    """
    machine = await tx.get(MACHINES, machine_id)
    return await put(tx, machine, set_aside(machine.value, request, issuer=issuer))


async def update(tx: Transaction, request: MachineUpdateRequest) -> Stored[Machine]:
    """Change what an operator may of an allocated machine.

    Raises:
        InvalidArgumentError: it is not allocated, or a key is none.
    """
    machine = await tx.get(MACHINES, request.id)
    value = machine.value
    allocation = value.allocation
    if allocation is None:
        raise InvalidArgumentError(
            f"machine {request.id} is not allocated, only allocated ones can be updated",
            remedy="Allocate it first.",
        )
    if request.ssh_pub_keys is not None:
        keys = parse_ssh_keys(request.ssh_pub_keys)
        allocation = msgspec.structs.replace(allocation, ssh_pub_keys=keys)
    tags = value.tags
    if request.tags is not None:
        tags = with_system_tags(
            request.tags,
            rack_id=value.rack_id,
            chassis_serial=await chassis_serial(tx, request.id),
            networks=allocation.networks,
        )
    description = value.description if request.description is None else request.description
    return await change(tx, machine, description=description, tags=tags, allocation=allocation)


async def delete(tx: Transaction, machine_id: str) -> Stored[Machine]:
    """Forget a machine that is gone.

    Raises:
        FailedPreconditionError: it is allocated, or still sends events.
    """
    machine = await tx.get(MACHINES, machine_id)
    if machine.value.allocation is not None:
        raise FailedPreconditionError(
            f"machine {machine_id} cannot be deleted: it is allocated",
            remedy="Free the machine first.",
        )
    events = await tx.lookup(EVENTS, machine_id)
    if events is not None and events.value.liveliness != "Dead":
        raise FailedPreconditionError(
            f"machine {machine_id} can only be deleted when it is dead, "
            f"and it is {events.value.liveliness.lower()}",
            remedy="Power the machine off and wait five minutes.",
        )
    await disconnect_machine(tx, machine_id)
    belongings: tuple[Kind[Any], ...] = (EVENTS, EVENT_HISTORIES, IPMIS, CONSOLE_PASSWORDS)
    for kind in belongings:
        found: Stored[Any] | None = await tx.lookup(kind, machine_id)
        if found is not None:
            await tx.delete(found)
    await tx.delete(machine)
    return machine
