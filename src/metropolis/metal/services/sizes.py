# SPDX-License-Identifier: Apache-2.0
"""Sizes: create, change, delete, and find the one that hardware has."""

from metropolis.base.errors import FailedPreconditionError
from metropolis.metal.model.hardware import Hardware
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.reservation import RESERVATIONS
from metropolis.metal.model.size import (
    SIZES,
    Size,
    SizeConstraint,
    SizeCreateRequest,
    SizeUpdateRequest,
)
from metropolis.metal.rules import sizes as rules
from metropolis.metal.rules.entity_ids import check_id
from metropolis.metal.store import Reader, Stored, Transaction


async def match_hardware(reader: Reader, hardware: Hardware) -> str:
    """Return the id of the size that hardware has: `unknown` when it is none, or several."""
    return rules.match(hardware, [(size.id, size.value) for size in await reader.find(SIZES)])


async def create_size(tx: Transaction, request: SizeCreateRequest) -> Stored[Size]:
    """Add a size.

    Raises:
        InvalidArgumentError: it is not well-formed, or overlaps with another one.
        AlreadyExistsError: there is one with this id.
    """
    size = Size(
        name=request.name or "",
        description=request.description or "",
        constraints=tuple(item.stored() for item in request.constraints or ()),
        labels=request.labels or {},
    )
    check_id("id", request.id)
    await _check(tx, request.id, size)
    return await tx.insert(SIZES, request.id, size)


async def update_size(tx: Transaction, request: SizeUpdateRequest) -> Stored[Size]:
    """Change what the request names.

    Raises:
        NotFoundError: there is no such size.
        InvalidArgumentError: as it would be, it is not well-formed or overlaps with another one.
    """
    old = await tx.get(SIZES, request.id)
    before = old.value
    size = Size(
        name=before.name if request.name is None else request.name,
        description=before.description if request.description is None else request.description,
        constraints=before.constraints
        if request.constraints is None
        else tuple(item.stored() for item in request.constraints),
        labels=before.labels if request.labels is None else request.labels,
    )
    await _check(tx, request.id, size)
    return await tx.replace(old, size)


async def _check(tx: Transaction, size_id: str, size: Size) -> None:
    rules.validate(size_id, size)
    others = [(other.id, other.value) for other in await tx.find(SIZES)]
    rules.refuse_overlap(size_id, size, others)


async def delete_size(tx: Transaction, size_id: str) -> Stored[Size]:
    """Remove a size that nobody has a reservation of.

    Raises:
        NotFoundError: there is no such size.
        FailedPreconditionError: there are reservations, naming them.
    """
    size = await tx.get(SIZES, size_id)
    reservations = await tx.find(RESERVATIONS, {"size": size_id})
    if reservations:
        names = ", ".join(reservation.id for reservation in reservations[:5])
        raise FailedPreconditionError(
            f"size {size_id} has {len(reservations)} reservations: {names}",
            remedy="Delete the reservations first.",
        )
    await tx.delete(size)
    return size


async def suggest(reader: Reader, machine_id: str) -> tuple[SizeConstraint, ...]:
    """Return constraints that a machine's hardware fits exactly.

    Raises:
        NotFoundError: there is no such machine.
    """
    machine = await reader.get(MACHINES, machine_id)
    return rules.suggest(machine.value.hardware)
