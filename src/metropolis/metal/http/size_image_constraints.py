# SPDX-License-Identifier: Apache-2.0
"""Size-image constraints, over REST."""

from typing import Any, Final

from msgspec import Struct

from metropolis.metal.http.operation import Call, Nothing, Operation, Role
from metropolis.metal.model.size_image_constraint import (
    SIZE_IMAGE_CONSTRAINTS,
    SizeImageConstraintCreateRequest,
    SizeImageConstraintResponse,
    SizeImageConstraintTryRequest,
    SizeImageConstraintUpdateRequest,
)
from metropolis.metal.services import size_image_constraints as constraints


class EmptyBody(Struct, frozen=True):
    """An answer that says nothing but yes."""


async def _list(call: Call[Nothing, Nothing]) -> list[SizeImageConstraintResponse]:
    found = await call.site.store.read(lambda reader: reader.find(SIZE_IMAGE_CONSTRAINTS))
    return [SizeImageConstraintResponse.of(each) for each in found]


async def _get(call: Call[Nothing, Nothing]) -> SizeImageConstraintResponse:
    return SizeImageConstraintResponse.of(
        await call.site.store.read(
            lambda reader: reader.get(SIZE_IMAGE_CONSTRAINTS, call.path["id"])
        )
    )


async def _create(
    call: Call[SizeImageConstraintCreateRequest, Nothing],
) -> SizeImageConstraintResponse:
    return SizeImageConstraintResponse.of(
        await call.site.store.write(lambda tx: constraints.create_constraint(tx, call.body))
    )


async def _update(
    call: Call[SizeImageConstraintUpdateRequest, Nothing],
) -> SizeImageConstraintResponse:
    return SizeImageConstraintResponse.of(
        await call.site.store.write(lambda tx: constraints.update_constraint(tx, call.body))
    )


async def _delete(call: Call[Nothing, Nothing]) -> SizeImageConstraintResponse:
    return SizeImageConstraintResponse.of(
        await call.site.store.write(lambda tx: constraints.delete_constraint(tx, call.path["id"]))
    )


async def _try(call: Call[SizeImageConstraintTryRequest, Nothing]) -> EmptyBody:
    await call.site.store.read(
        lambda reader: constraints.try_constraint(reader, call.body.size, call.body.image)
    )
    return EmptyBody()


OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (
    Operation(
        id="listSizeImageConstraints",
        method="GET",
        path="/v1/size-image-constraint",
        role=Role.ANY,
        summary="List all size-image constraints.",
        handle=_list,
        answer=list[SizeImageConstraintResponse],
        depends_on=(SIZE_IMAGE_CONSTRAINTS,),
        tag="sizeimageconstraint",
    ),
    Operation(
        id="createSizeImageConstraint",
        method="PUT",
        path="/v1/size-image-constraint",
        role=Role.ADMIN,
        summary="Constrain which versions of operating systems run on a size.",
        handle=_create,
        body=SizeImageConstraintCreateRequest,
        answer=SizeImageConstraintResponse,
        status=201,
        errors=(409,),
        tag="sizeimageconstraint",
    ),
    Operation(
        id="updateSizeImageConstraint",
        method="POST",
        path="/v1/size-image-constraint",
        role=Role.ADMIN,
        summary="Change the constraint of a size.",
        handle=_update,
        body=SizeImageConstraintUpdateRequest,
        answer=SizeImageConstraintResponse,
        errors=(409,),
        tag="sizeimageconstraint",
    ),
    Operation(
        id="trySizeImageConstraint",
        method="POST",
        path="/v1/size-image-constraint/try",
        role=Role.ADMIN,
        summary="Say whether an image may be installed on a size.",
        handle=_try,
        body=SizeImageConstraintTryRequest,
        answer=EmptyBody,
        audited=False,
        tag="sizeimageconstraint",
    ),
    Operation(
        id="findSizeImageConstraint",
        method="GET",
        path="/v1/size-image-constraint/{id}",
        role=Role.ANY,
        summary="Return the constraint of a size.",
        handle=_get,
        answer=SizeImageConstraintResponse,
        depends_on=(SIZE_IMAGE_CONSTRAINTS,),
        tag="sizeimageconstraint",
    ),
    Operation(
        id="deleteSizeImageConstraint",
        method="DELETE",
        path="/v1/size-image-constraint/{id}",
        role=Role.ADMIN,
        summary="Delete the constraint of a size.",
        handle=_delete,
        answer=SizeImageConstraintResponse,
        tag="sizeimageconstraint",
    ),
)
