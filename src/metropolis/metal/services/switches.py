# SPDX-License-Identifier: Apache-2.0
"""Switches: register, replace, change, delete."""

import msgspec

from metropolis.base.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
)
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.partition import PARTITIONS
from metropolis.metal.model.switch import (
    SWITCH_STATUSES,
    SWITCHES,
    Switch,
    SwitchMigrateRequest,
    SwitchRegisterRequest,
    SwitchStatus,
    SwitchUpdateRequest,
)
from metropolis.metal.rules.allocation import with_system_tags
from metropolis.metal.rules.entity_ids import check_id
from metropolis.metal.rules.switch_ports import (
    emptied,
    merge_ports,
    mode_of,
    os_of,
    ports_of,
    rewritten_nics,
    take_over,
)
from metropolis.metal.services.connections import (
    connect_machine,
    connected_switches,
    disconnect_machine,
    set_machine_vrf,
)
from metropolis.metal.services.machines import change, chassis_serial
from metropolis.metal.store import Stored, Transaction

__all__ = [
    "connect_machine",
    "delete_switch",
    "disconnect_machine",
    "migrate_switch",
    "register_switch",
    "set_machine_vrf",
    "update_switch",
]

NO_MACS = frozenset({"", "00:00:00:00:00:00"})


async def register_switch(
    tx: Transaction, request: SwitchRegisterRequest
) -> tuple[Stored[Switch], bool]:
    """Take in what a switch says of itself; the second value is whether it is a new one.

    A switch whose mode is `replace` takes the place of the one that had its id before, with what
    its twin in the rack says of the connections.

    Raises:
        InvalidArgumentError: the request can never succeed, naming the field.
        NotFoundError: the partition does not exist.
        AlreadyExistsError: a port's MAC is another switch's: they were swapped.
        FailedPreconditionError: a port with a machine is gone, or the switch stands elsewhere.
    """
    check_id("id", request.id)
    check_id("rack_id", request.rack_id)
    await tx.get(PARTITIONS, request.partition_id)
    old = await tx.lookup(SWITCHES, request.id)
    said = _as_said(request, old.value if old is not None else None)
    await _check_macs(tx, request.id, said)
    if old is None:
        # It is there from the beginning, so that reports at the same time only ever change it.
        await tx.insert(SWITCH_STATUSES, request.id, SwitchStatus())
        return await tx.insert(SWITCHES, request.id, said), True
    _check_place(old, said)
    if old.value.mode == "replace":
        return await _replace(tx, old, said), False
    merged = msgspec.structs.replace(
        said, ports=merge_ports(old.value, said.ports), connections=old.value.connections
    )
    if merged == old.value:
        return old, False
    return await tx.replace(old, merged), False


def _as_said(request: SwitchRegisterRequest, old: Switch | None) -> Switch:
    """A switch as it says itself; absent fields are as they were."""
    before = old or Switch(partition_id=request.partition_id, rack_id=request.rack_id)
    return Switch(
        name=before.name or request.id if request.name is None else request.name,
        description=before.description if request.description is None else request.description,
        partition_id=request.partition_id,
        rack_id=request.rack_id,
        room_id=before.room_id if request.room_id is None else request.room_id,
        mode=mode_of(request.mode) if old is None else "operational",
        os=os_of(request.os, before.os),
        management_ip=before.management_ip
        if request.management_ip is None
        else request.management_ip,
        management_user=before.management_user
        if request.management_user is None
        else request.management_user,
        console_command=before.console_command
        if request.console_command is None
        else request.console_command,
        ports=ports_of(request.nics),
    )


async def _check_macs(tx: Transaction, switch_id: str, said: Switch) -> None:
    """Refuse hardware that is known under another id: switches that were swapped, or renamed."""
    macs = sorted({port.mac for port in said.ports} - NO_MACS)
    if not macs:
        return
    for other in await tx.find(SWITCHES, {"mac": macs}):
        if other.id != switch_id:
            shared = sorted({port.mac for port in other.value.ports} & set(macs))
            raise AlreadyExistsError(
                f"nics: MAC {shared[0]} is one of switch {other.id}, so this is not {switch_id}",
                remedy=f"Check whether both were swapped; delete {other.id} if it was renamed.",
            )


def _check_place(old: Stored[Switch], said: Switch) -> None:
    """Refuse that a switch with machines moves: they do not move with it."""
    for field, before, after in (
        ("partition_id", old.value.partition_id, said.partition_id),
        ("rack_id", old.value.rack_id, said.rack_id),
    ):
        if before != after and old.value.connections:
            raise FailedPreconditionError(
                f"{field}: switch {old.id} has machines in {before}, and says it is in {after}",
                remedy="Check whether switches were swapped; update the switch's rack first if it "
                "was renamed.",
            )


async def _replace(tx: Transaction, old: Stored[Switch], said: Switch) -> Stored[Switch]:
    """Let new hardware take the place of the switch that had its id."""
    twins = [
        each
        for each in await tx.find(SWITCHES, {"rack": said.rack_id, "partition": said.partition_id})
        if each.id != old.id and each.value.mode == "operational" and each.value.connections
    ]
    if len(twins) != 1:
        names = ", ".join(each.id for each in twins) or "none"
        raise FailedPreconditionError(
            f"switch {old.id} needs exactly one operational twin with machines in rack "
            f"{said.rack_id} to be replaced, and there is {names}",
            remedy="Set the mode of the switch to operational if nothing is connected in the rack.",
        )
    taken = take_over(twins[0].value, twins[0].id, said, every_port=True)
    replaced = await tx.replace(old, taken)
    await _rewrite_neighbours(tx, old, replaced)
    status = await tx.lookup(SWITCH_STATUSES, old.id)
    if status is not None:
        await tx.replace(status, SwitchStatus())
    return replaced


async def _rewrite_neighbours(tx: Transaction, old: Stored[Switch], new: Stored[Switch]) -> None:
    """Let the machines see what now is at the other ends of their cables."""
    names = [name for name in (old.id, old.value.name) if name]
    for machine_id in sorted({each.machine_id for each in new.value.connections}):
        machine = await tx.lookup(MACHINES, machine_id)
        if machine is None:
            continue
        nics = rewritten_nics(machine.value.hardware.nics, old.value, names, new.value, new.id)
        if nics != machine.value.hardware.nics:
            hardware = msgspec.structs.replace(machine.value.hardware, nics=nics)
            await change(tx, machine, hardware=hardware)


async def migrate_switch(tx: Transaction, request: SwitchMigrateRequest) -> Stored[Switch]:
    """Move what is connected to one switch to another of the rack, and return that.

    Raises:
        NotFoundError: there is no such switch.
        InvalidArgumentError: both are the same.
        FailedPreconditionError: the target has machines, stands elsewhere, or lacks a port.
    """
    if request.old_switch_id == request.new_switch_id:
        raise InvalidArgumentError(
            "new_switch_id: is the same as old_switch_id", remedy="Name two switches."
        )
    old = await tx.get(SWITCHES, request.old_switch_id)
    new = await tx.get(SWITCHES, request.new_switch_id)
    if (old.value.rack_id, old.value.partition_id) != (new.value.rack_id, new.value.partition_id):
        raise FailedPreconditionError(
            f"new_switch_id: {new.id} is in rack {new.value.rack_id}, "
            f"{old.id} in {old.value.rack_id}",
            remedy="Choose a switch of the same rack.",
        )
    if new.value.connections:
        raise FailedPreconditionError(
            f"new_switch_id: {new.id} has machines already",
            remedy="Choose a switch to which nothing is connected.",
        )
    taken = take_over(old.value, old.id, new.value, every_port=False)
    await tx.replace(old, emptied(old.value))
    moved = await tx.replace(new, msgspec.structs.replace(taken, mode="operational"))
    await _rewrite_neighbours(tx, old, moved)
    return moved


async def update_switch(tx: Transaction, request: SwitchUpdateRequest) -> Stored[Switch]:
    """Change what an administrator may change of a switch; absent fields stay.

    Machines follow into a renamed rack when both their switches are there.

    Raises:
        NotFoundError: there is no such switch.
        InvalidArgumentError: the rack's id can be none.
    """
    check_id("rack_id", request.rack_id)
    old = await tx.get(SWITCHES, request.id)
    changed = msgspec.structs.replace(
        old.value,
        rack_id=request.rack_id,
        mode=old.value.mode if request.mode is None else mode_of(request.mode),
        os=os_of(request.os, old.value.os),
        **{
            name: value
            for name in (
                "name",
                "description",
                "room_id",
                "management_ip",
                "management_user",
                "console_command",
            )
            if (value := getattr(request, name)) is not None
        },
    )
    updated = await tx.replace(old, changed)
    if changed.rack_id != old.value.rack_id:
        await _follow(tx, updated)
    return updated


async def _follow(tx: Transaction, switch: Stored[Switch]) -> None:
    """Let machines be in a renamed rack as soon as both their switches are."""
    rack_id = switch.value.rack_id
    for machine_id in sorted({each.machine_id for each in switch.value.connections}):
        machine = await tx.lookup(MACHINES, machine_id)
        racks = {each.value.rack_id for each in await connected_switches(tx, machine_id)}
        if machine is None or racks != {rack_id}:
            continue
        tags = machine.value.tags
        if machine.value.allocation is not None:
            tags = with_system_tags(
                tags,
                rack_id=rack_id,
                chassis_serial=await chassis_serial(tx, machine_id),
                networks=machine.value.allocation.networks,
            )
        await change(tx, machine, rack_id=rack_id, tags=tags)


async def delete_switch(tx: Transaction, switch_id: str, *, force: bool = False) -> Stored[Switch]:
    """Forget a switch.

    Raises:
        NotFoundError: there is no such switch.
        FailedPreconditionError: machines are connected to it, and it is not forced.
    """
    switch = await tx.get(SWITCHES, switch_id)
    if switch.value.connections and not force:
        first = switch.value.connections[0]
        raise FailedPreconditionError(
            f"switch {switch_id} has machines, such as {first.machine_id} at {first.port}",
            remedy="Migrate it to another switch, or repeat the request with force=true.",
        )
    await tx.delete(switch)
    status = await tx.lookup(SWITCH_STATUSES, switch_id)
    if status is not None:
        await tx.delete(status)
    return switch
