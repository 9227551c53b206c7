# SPDX-License-Identifier: Apache-2.0
"""Allocation: from a request to a machine that is somebody's, in one transaction.

Nothing is marked, tried and rolled back: what an allocation takes (a machine, addresses, a number)
is taken in the transaction that writes whose it is, or not at all.
"""

import hashlib
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from random import Random
from uuid import UUID

from metropolis.base.errors import (
    FailedPreconditionError,
    ResourceExhaustedError,
)
from metropolis.host import Entropy
from metropolis.metal.masterdata.projects import get_project
from metropolis.metal.model.image import Image
from metropolis.metal.model.layout import LAYOUTS, FilesystemLayout, FilesystemLayoutResponse
from metropolis.metal.model.machine import MACHINES, Allocation, Machine
from metropolis.metal.model.machine_network import MachineNetwork
from metropolis.metal.model.message import ALLOCATION_TOPIC, AllocationEvent
from metropolis.metal.model.partition import PARTITIONS, Partition
from metropolis.metal.model.remembered_allocation import (
    REMEMBERED_ALLOCATIONS,
    RememberedAllocation,
)
from metropolis.metal.model.size import SIZES
from metropolis.metal.rules.allocation import AllocationSpec, with_system_tags
from metropolis.metal.rules.layouts import check_hardware
from metropolis.metal.rules.life_cycle import check_takeable, take
from metropolis.metal.rules.machine_networks import AttachPlan
from metropolis.metal.rules.placement import Reserved, choose_racks, may_take
from metropolis.metal.services.images import resolve
from metropolis.metal.services.layouts import choose
from metropolis.metal.services.machine_networks import attach_machine
from metropolis.metal.services.machines import chassis_serial, put
from metropolis.metal.services.pools import (
    available_by_rack,
    available_in,
    count_by_rack,
    count_tagged_by_rack,
    lookup_alive,
    some_of_many,
    waiting_by_rack,
)
from metropolis.metal.services.reservations import allocations, find_for
from metropolis.metal.services.size_image_constraints import check
from metropolis.metal.store import Reader, Stored, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What an allocation has of chance, drawn before the transaction that may run twice.

    Attributes:
        uuid: Of the allocation.
        seed: For choosing among equals.
    """

    uuid: str
    seed: bytes


def draw(entropy: Entropy) -> Draw:
    """Draw what one allocation needs."""
    return Draw(
        uuid=str(UUID(bytes=entropy.token_bytes(16), version=4)), seed=entropy.token_bytes(16)
    )


async def allocate(
    tx: Transaction, spec: AllocationSpec, *, creator: str, luck: Draw, idempotency_key: str = ""
) -> Stored[Machine]:
    """Give a project a machine.

    Args:
        creator: Mail address of who asks.
        idempotency_key: Asking again with the same one gives the same machine.

    Raises:
        NotFoundError: something that the request names does not exist.
        FailedPreconditionError: something that it names is not fit for it.
        ResourceExhaustedError: no machine, no address, no number or no quota is left.
    """
    remembered = await _remembered(tx, spec, idempotency_key)
    if remembered is not None:
        return remembered
    choice = await _choose(tx, spec, luck)
    machine = choice.machine
    networks = await attach_machine(
        tx,
        AttachPlan(
            machine_id=machine.id,
            machine_name=spec.name,
            project_id=spec.project_id,
            partition_id=choice.partition.id,
            role=spec.role,
            networks=spec.networks,
            ips=spec.ips,
        ),
    )
    tags = with_system_tags(
        spec.tags,
        rack_id=machine.value.rack_id,
        chassis_serial=await chassis_serial(tx, machine.id),
        networks=networks,
    )
    allocation = _allocation(spec, choice, networks, uuid=luck.uuid, creator=creator, now=tx.now)
    taken = take(machine.value, allocation, image_id=choice.image.id, tags=tags)
    allocated = await put(tx, machine, taken)
    await tx.send(ALLOCATION_TOPIC, AllocationEvent(machine_id=machine.id))
    await _remember(tx, spec, idempotency_key, allocated, luck.uuid)
    return allocated


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """What a request comes to."""

    machine: Stored[Machine]
    partition: Stored[Partition]
    image: Stored[Image]
    layout: Stored[FilesystemLayout]


async def _choose(reader: Reader, spec: AllocationSpec, luck: Draw) -> _Choice:
    """Judge everything that a request names, and choose what it leaves open."""
    image = await _image(reader, spec)
    named = await _named(reader, spec) if spec.machine_id else None
    partition_id = spec.partition_id if named is None else named.value.partition_id
    size_id = spec.size_id if named is None else named.value.size_id
    partition = await reader.get(PARTITIONS, partition_id)
    await reader.get(SIZES, size_id)
    await check(reader, size_id, image)
    await _check_quota(reader, spec.project_id)
    layout = await _layout(reader, spec, size_id, image)
    machine = named or await _candidate(reader, spec, luck)
    check_hardware(layout.value, machine.value.hardware)
    return _Choice(machine=machine, partition=partition, image=image, layout=layout)


def _allocation(
    spec: AllocationSpec,
    choice: _Choice,
    networks: tuple[MachineNetwork, ...],
    *,
    uuid: str,
    creator: str,
    now: datetime,
) -> Allocation:
    partition = choice.partition.value
    return Allocation(
        uuid=uuid,
        project_id=spec.project_id,
        role=spec.role,
        name=spec.name,
        hostname=spec.hostname,
        created=now,
        creator=creator,
        networks=networks,
        ssh_pub_keys=spec.ssh_pub_keys,
        reinstall=False,
        succeeded=False,
        description=spec.description,
        user_data=spec.user_data,
        dns_servers=spec.dns_servers or partition.dns_servers,
        ntp_servers=spec.ntp_servers or partition.ntp_servers,
        firewall_rules=spec.firewall_rules,
        layout=FilesystemLayoutResponse.of(choice.layout),
    )


async def _image(reader: Reader, spec: AllocationSpec) -> Stored[Image]:
    image = await resolve(reader, spec.image_id)
    if spec.role not in image.value.features:
        raise FailedPreconditionError(
            f"image {image.id} cannot be used for a {spec.role}",
            remedy=f"Choose an image with the feature {spec.role}.",
        )
    return image


async def _layout(
    reader: Reader, spec: AllocationSpec, size_id: str, image: Stored[Image]
) -> Stored[FilesystemLayout]:
    if spec.layout_id:
        return await reader.get(LAYOUTS, spec.layout_id)
    return await choose(reader, size_id, image)


async def _check_quota(reader: Reader, project_id: str) -> None:
    """Refuse what a project has no quota for; firewalls are machines, too."""
    project = await get_project(reader, project_id)
    quota = None if project.value.quotas is None else project.value.quotas.machine
    if quota is None or quota.max is None:
        return
    used = await reader.count(MACHINES, {"project": project_id})
    if used >= quota.max:
        raise ResourceExhaustedError(
            f"project {project_id} has {used} machines, and its quota is {quota.max}",
            remedy="Free a machine, or let the quota be raised.",
        )


async def _named(reader: Reader, spec: AllocationSpec) -> Stored[Machine]:
    """The machine that the request names."""
    machine = await reader.get(MACHINES, spec.machine_id)
    value = machine.value
    check_takeable(value)
    for field, wanted, found in (
        ("partitionid", spec.partition_id, value.partition_id),
        ("sizeid", spec.size_id, value.size_id),
    ):
        if wanted and wanted != found:
            raise FailedPreconditionError(
                f"{field}: machine {machine.id} is of {found or 'none'}, not of {wanted}",
                remedy=f"Leave {field} out, or name another machine.",
            )
    return machine


async def _candidate(reader: Reader, spec: AllocationSpec, luck: Draw) -> Stored[Machine]:
    """A machine that waits, chosen by reservations, racks and chance."""
    place = (spec.partition_id, spec.size_id)
    mine = {"project_id": spec.project_id, "partition_id": spec.partition_id}
    by_role = await count_by_rack(reader, **mine, role=spec.role)
    by_tags: dict[str, int] | None = None
    if spec.placement_tags:
        by_tags = await count_tagged_by_rack(reader, **mine, tags=spec.placement_tags)
    reserved = await _reserved(reader, spec)
    if reserved:
        by_rack = await available_by_rack(reader, *place)
        if by_rack and not may_take(spec.project_id, sum(by_rack.values()), reserved):
            raise ResourceExhaustedError(
                "no machine available for allocation: those that wait are reserved for others",
                remedy="Reserve machines for the project, or let others give some back.",
            )
    else:
        taken = {*by_role, *(by_tags or ())}
        if machine := await _apart_from(reader, taken, place, luck):
            return machine
        by_rack = await waiting_by_rack(reader, *place)
    chance = Random(luck.seed)  # noqa: S311  # which of equal machines it is protects nothing
    looked_closely = bool(reserved)
    while by_rack:
        racks = choose_racks(list(by_rack), by_role, by_tags)
        (rack,) = chance.choices(racks, [by_rack[each] for each in racks])  # by their machines
        found = await available_in(reader, *place, rack)
        if found:
            return chance.choice(found)
        if looked_closely:
            del by_rack[rack]  # nothing was ever heard of what waits there
        else:  # what waits there is dead: look where something is alive
            looked_closely, by_rack = True, await available_by_rack(reader, *place)
    raise _none_available(spec)


async def _apart_from(
    reader: Reader, racks: AbstractSet[str], place: tuple[str, str], luck: Draw
) -> Stored[Machine] | None:
    """One of very many machines, in a rack where the project has nothing: no rack is better.

    Where thousands wait, nearly every one is like that, and counting them would cost the most of
    an allocation.
    """
    for machine_id in await some_of_many(reader, *place, start=str(UUID(bytes=luck.seed))):
        machine = await lookup_alive(reader, machine_id)
        if machine is not None and machine.value.rack_id not in racks:
            return machine
    return None


def _none_available(spec: AllocationSpec) -> ResourceExhaustedError:
    return ResourceExhaustedError(
        f"no machine available: none of size {spec.size_id} waits in {spec.partition_id}",
        remedy="Look at the capacity of the partition; choose another size or partition.",
    )


async def _reserved(reader: Reader, spec: AllocationSpec) -> list[Reserved]:
    found = await find_for(reader, size_id=spec.size_id, partition_id=spec.partition_id)
    return [
        Reserved(
            project_id=each.value.project_id,
            amount=each.value.amount,
            used=await allocations(
                reader,
                project_id=each.value.project_id,
                size_id=spec.size_id,
                partition_id=spec.partition_id,
            ),
        )
        for each in found
    ]


def _memory_key(spec: AllocationSpec, key: str) -> str:
    return hashlib.sha256(f"{spec.project_id}\x1f{key}".encode()).hexdigest()


async def _remembered(reader: Reader, spec: AllocationSpec, key: str) -> Stored[Machine] | None:
    if not key:
        return None
    found = await reader.lookup(REMEMBERED_ALLOCATIONS, _memory_key(spec, key))
    if found is None:
        return None
    machine = await reader.lookup(MACHINES, found.value.machine_id)
    allocation = None if machine is None else machine.value.allocation
    if allocation is None or allocation.uuid != found.value.allocation_uuid:
        return None
    return machine


async def _remember(
    tx: Transaction, spec: AllocationSpec, key: str, machine: Stored[Machine], allocation: str
) -> None:
    if not key:
        return
    memory = RememberedAllocation(machine_id=machine.id, allocation_uuid=allocation)
    found = await tx.lookup(REMEMBERED_ALLOCATIONS, _memory_key(spec, key))
    if found is None:
        await tx.insert(REMEMBERED_ALLOCATIONS, _memory_key(spec, key), memory)
    else:
        await tx.replace(found, memory)
