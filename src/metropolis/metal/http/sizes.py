# SPDX-License-Identifier: Apache-2.0
"""Sizes, over REST."""

from typing import Any, Final

from metropolis.metal.http.operation import Call, Nothing, Operation, Role
from metropolis.metal.model.size import (
    SIZES,
    SizeConstraint,
    SizeCreateRequest,
    SizeResponse,
    SizeSuggestRequest,
    SizeUpdateRequest,
)
from metropolis.metal.services import sizes


async def _list(call: Call[Nothing, Nothing]) -> list[SizeResponse]:
    found = await call.site.store.read(lambda reader: reader.find(SIZES))
    return [SizeResponse.of(size) for size in found]


async def _get(call: Call[Nothing, Nothing]) -> SizeResponse:
    return SizeResponse.of(
        await call.site.store.read(lambda reader: reader.get(SIZES, call.path["id"]))
    )


async def _create(call: Call[SizeCreateRequest, Nothing]) -> SizeResponse:
    return SizeResponse.of(await call.site.store.write(lambda tx: sizes.create_size(tx, call.body)))


async def _update(call: Call[SizeUpdateRequest, Nothing]) -> SizeResponse:
    return SizeResponse.of(await call.site.store.write(lambda tx: sizes.update_size(tx, call.body)))


async def _delete(call: Call[Nothing, Nothing]) -> SizeResponse:
    return SizeResponse.of(
        await call.site.store.write(lambda tx: sizes.delete_size(tx, call.path["id"]))
    )


async def _suggest(call: Call[SizeSuggestRequest, Nothing]) -> tuple[SizeConstraint, ...]:
    return await call.site.store.read(lambda reader: sizes.suggest(reader, call.body.machine_id))


OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (
    Operation(
        id="listSizes",
        method="GET",
        path="/v1/size",
        role=Role.ANY,
        summary="List all sizes.",
        handle=_list,
        answer=list[SizeResponse],
        depends_on=(SIZES,),
        tag="size",
    ),
    Operation(
        id="createSize",
        method="PUT",
        path="/v1/size",
        role=Role.ADMIN,
        summary="Create a size; one that overlaps with another is refused.",
        handle=_create,
        body=SizeCreateRequest,
        answer=SizeResponse,
        status=201,
        errors=(409,),
        tag="size",
    ),
    Operation(
        id="updateSize",
        method="POST",
        path="/v1/size",
        role=Role.ADMIN,
        summary="Change a size; machines get it when they register again.",
        handle=_update,
        body=SizeUpdateRequest,
        answer=SizeResponse,
        errors=(409,),
        tag="size",
    ),
    Operation(
        id="suggest",
        method="POST",
        path="/v1/size/suggest",
        role=Role.ANY,
        summary="Return constraints that a machine's hardware fits exactly.",
        handle=_suggest,
        body=SizeSuggestRequest,
        answer=list[SizeConstraint],
        audited=False,
        tag="size",
    ),
    Operation(
        id="findSize",
        method="GET",
        path="/v1/size/{id}",
        role=Role.ANY,
        summary="Return a size.",
        handle=_get,
        answer=SizeResponse,
        depends_on=(SIZES,),
        tag="size",
    ),
    Operation(
        id="deleteSize",
        method="DELETE",
        path="/v1/size/{id}",
        role=Role.ADMIN,
        summary="Delete a size that nobody has a reservation of.",
        handle=_delete,
        answer=SizeResponse,
        tag="size",
    ),
)
