# SPDX-License-Identifier: Apache-2.0
"""Size reservations, over REST. Who is confined to projects sees and changes only theirs."""

from typing import Any, Final
from uuid import UUID

from metropolis.metal.access.caller import Caller
from metropolis.metal.http.operation import Call, Nothing, Operation, Role
from metropolis.metal.model.reservation import (
    RESERVATIONS,
    Reservation,
    SizeReservationCreateRequest,
    SizeReservationListRequest,
    SizeReservationResponse,
    SizeReservationUpdateRequest,
    SizeReservationUsageResponse,
)
from metropolis.metal.services import reservations
from metropolis.metal.store import Reader, Stored, Transaction

_UUID_BYTES: Final = 16


async def _get_visible(reader: Reader, caller: Caller, key: str) -> Stored[Reservation]:
    reservation = await reader.get(RESERVATIONS, key)
    caller.check_sight(reservation.value.project_id, f"size reservation {key!r}")
    return reservation


async def _list(call: Call[Nothing, Nothing]) -> list[SizeReservationResponse]:
    found = await call.site.store.read(lambda reader: reader.find(RESERVATIONS))
    return [
        SizeReservationResponse.of(each)
        for each in found
        if call.caller.sees(each.value.project_id)
    ]


async def _find(call: Call[SizeReservationListRequest, Nothing]) -> list[SizeReservationResponse]:
    found = await call.site.store.read(
        lambda reader: reservations.find_reservations(reader, call.body)
    )
    return [
        SizeReservationResponse.of(each)
        for each in found
        if call.caller.sees(each.value.project_id)
    ]


async def _usage(
    call: Call[SizeReservationListRequest, Nothing],
) -> list[SizeReservationUsageResponse]:
    rows = await call.site.store.read(lambda reader: reservations.usage(reader, call.body))
    return [row for row in rows if call.caller.sees(row.project_id)]


async def _get(call: Call[Nothing, Nothing]) -> SizeReservationResponse:
    return SizeReservationResponse.of(
        await call.site.store.read(
            lambda reader: _get_visible(reader, call.caller, call.path["id"])
        )
    )


async def _create(call: Call[SizeReservationCreateRequest, Nothing]) -> SizeReservationResponse:
    call.caller.check_project(call.body.project_id)
    new_id = str(UUID(bytes=call.site.entropy.token_bytes(_UUID_BYTES), version=4))
    return SizeReservationResponse.of(
        await call.site.store.write(
            lambda tx: reservations.create_reservation(tx, call.body, new_id=new_id)
        )
    )


async def _update(call: Call[SizeReservationUpdateRequest, Nothing]) -> SizeReservationResponse:
    async def change(tx: Transaction) -> Stored[Reservation]:
        await _get_visible(tx, call.caller, call.body.id)
        return await reservations.update_reservation(tx, call.body)

    return SizeReservationResponse.of(await call.site.store.write(change))


async def _delete(call: Call[Nothing, Nothing]) -> SizeReservationResponse:
    async def change(tx: Transaction) -> Stored[Reservation]:
        await _get_visible(tx, call.caller, call.path["id"])
        return await reservations.delete_reservation(tx, call.path["id"])

    return SizeReservationResponse.of(await call.site.store.write(change))


OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (
    Operation(
        id="listSizeReservations",
        method="GET",
        path="/v1/size/reservations",
        role=Role.ANY,
        summary="List all size reservations.",
        handle=_list,
        answer=list[SizeReservationResponse],
        audited=False,
        tag="size",
    ),
    Operation(
        id="createSizeReservation",
        method="PUT",
        path="/v1/size/reservations",
        role=Role.EDIT,
        summary="Reserve machines of a size for a project, so many in each partition.",
        handle=_create,
        body=SizeReservationCreateRequest,
        answer=SizeReservationResponse,
        status=201,
        errors=(409,),
        tag="size",
    ),
    Operation(
        id="updateSizeReservation",
        method="POST",
        path="/v1/size/reservations",
        role=Role.EDIT,
        summary="Change a size reservation; its size and project stay.",
        handle=_update,
        body=SizeReservationUpdateRequest,
        answer=SizeReservationResponse,
        errors=(409,),
        tag="size",
    ),
    Operation(
        id="findSizeReservations",
        method="POST",
        path="/v1/size/reservations/find",
        role=Role.ANY,
        summary="Find size reservations by id, size, project and partition.",
        handle=_find,
        body=SizeReservationListRequest,
        answer=list[SizeReservationResponse],
        audited=False,
        tag="size",
    ),
    Operation(
        id="sizeReservationsUsage",
        method="POST",
        path="/v1/size/reservations/usage",
        role=Role.ANY,
        summary="Say how much of reservations is used, by reservation and partition.",
        handle=_usage,
        body=SizeReservationListRequest,
        answer=list[SizeReservationUsageResponse],
        audited=False,
        tag="size",
    ),
    Operation(
        id="getSizeReservation",
        method="GET",
        path="/v1/size/reservations/{id}",
        role=Role.ANY,
        summary="Return a size reservation.",
        handle=_get,
        answer=SizeReservationResponse,
        tag="size",
    ),
    Operation(
        id="deleteSizeReservation",
        method="DELETE",
        path="/v1/size/reservations/{id}",
        role=Role.EDIT,
        summary="Delete a size reservation; machines that were allocated by it stay.",
        handle=_delete,
        answer=SizeReservationResponse,
        tag="size",
    ),
)
