# SPDX-License-Identifier: Apache-2.0
"""Size reservations: create, change, delete, find, and how much of them is used."""

from metropolis.base.errors import InvalidArgumentError, NotFoundError
from metropolis.metal.masterdata.projects import get_project
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.partition import PARTITIONS
from metropolis.metal.model.reservation import (
    RESERVATIONS,
    Reservation,
    SizeReservationCreateRequest,
    SizeReservationListRequest,
    SizeReservationUpdateRequest,
    SizeReservationUsageResponse,
)
from metropolis.metal.model.size import SIZES
from metropolis.metal.rules.entity_ids import check_id
from metropolis.metal.rules.reservations import use_of, validate
from metropolis.metal.store import Reader, Scalar, Stored, Transaction


async def find_for(reader: Reader, *, size_id: str, partition_id: str) -> list[Stored[Reservation]]:
    """Return the reservations of all projects for a size in a partition."""
    return await reader.find(RESERVATIONS, {"size": size_id, "partition": partition_id})


async def find_reservations(
    reader: Reader, request: SizeReservationListRequest
) -> list[Stored[Reservation]]:
    """Return the reservations that have everything that was asked for."""
    where: dict[str, Scalar] = {
        name: value
        for name, value in (
            ("size", request.size_id),
            ("project", request.project_id),
            ("partition", request.partition_id),
        )
        if value
    }
    found = await reader.find(RESERVATIONS, where)
    return [each for each in found if not request.id or each.id == request.id]


async def create_reservation(
    tx: Transaction, request: SizeReservationCreateRequest, *, new_id: str
) -> Stored[Reservation]:
    """Add a reservation.

    Args:
        new_id: Used when the request names none.

    Raises:
        InvalidArgumentError: it is not well-formed, or size, project or a partition is not there.
        AlreadyExistsError: there is one with this id.
    """
    reservation = Reservation(
        size_id=request.size_id,
        project_id=request.project_id,
        partition_ids=request.partition_ids,
        amount=request.amount,
        name=request.name or "",
        description=request.description or "",
        labels=request.labels or {},
    )
    validate(reservation)
    if await tx.lookup(SIZES, request.size_id) is None:
        raise _missing("sizeid", "size", request.size_id)
    try:
        await get_project(tx, request.project_id)
    except NotFoundError as cause:
        raise _missing("projectid", "project", request.project_id) from cause
    await _check_partitions(tx, reservation)
    key = check_id("id", request.id) if request.id else new_id
    return await tx.insert(RESERVATIONS, key, reservation)


async def update_reservation(
    tx: Transaction, request: SizeReservationUpdateRequest
) -> Stored[Reservation]:
    """Change what the request names; size and project never change.

    Raises:
        NotFoundError: there is no such reservation.
        InvalidArgumentError: it would not be well-formed, or a partition is not there.
    """
    old = await tx.get(RESERVATIONS, request.id)
    before = old.value
    reservation = Reservation(
        size_id=before.size_id,
        project_id=before.project_id,
        partition_ids=before.partition_ids
        if request.partition_ids is None
        else request.partition_ids,
        amount=before.amount if request.amount is None else request.amount,
        name=before.name if request.name is None else request.name,
        description=before.description if request.description is None else request.description,
        labels=before.labels if request.labels is None else request.labels,
    )
    validate(reservation)
    await _check_partitions(tx, reservation)
    return await tx.replace(old, reservation)


async def delete_reservation(tx: Transaction, reservation_id: str) -> Stored[Reservation]:
    """Remove a reservation; machines that were allocated by it stay.

    Raises:
        NotFoundError: there is no such reservation.
    """
    reservation = await tx.get(RESERVATIONS, reservation_id)
    await tx.delete(reservation)
    return reservation


async def usage(
    reader: Reader, request: SizeReservationListRequest
) -> list[SizeReservationUsageResponse]:
    """Say how much is used, one row for every reservation and partition."""
    rows: list[SizeReservationUsageResponse] = []
    for each in await find_reservations(reader, request):
        value = each.value
        for partition_id in value.partition_ids:
            if request.partition_id and partition_id != request.partition_id:
                continue
            allocated = await allocations(
                reader,
                project_id=value.project_id,
                size_id=value.size_id,
                partition_id=partition_id,
            )
            rows.append(
                SizeReservationUsageResponse(
                    id=each.id,
                    name=value.name,
                    description=value.description,
                    size_id=value.size_id,
                    project_id=value.project_id,
                    partition_id=partition_id,
                    amount=value.amount,
                    used_amount=use_of(value.amount, allocated).used,
                    project_allocations=allocated,
                    labels=value.labels,
                )
            )
    return rows


async def allocations(reader: Reader, *, project_id: str, size_id: str, partition_id: str) -> int:
    """Count a project's machines of a size in a partition, whatever their role."""
    return await reader.count(
        MACHINES, {"project": project_id, "size": size_id, "partition": partition_id}
    )


async def _check_partitions(tx: Transaction, reservation: Reservation) -> None:
    for partition_id in reservation.partition_ids:
        if await tx.lookup(PARTITIONS, partition_id) is None:
            raise _missing("partitionids", "partition", partition_id)


def _missing(field: str, kind: str, key: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{field}: there is no {kind} {key!r}",
        remedy=f"Name a {kind} that exists; `metalctl {kind} list` shows them.",
    )
