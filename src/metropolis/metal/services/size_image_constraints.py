# SPDX-License-Identifier: Apache-2.0
"""Size-image constraints: create, change, delete, and judge an image by them."""

from metropolis.metal.model.image import IMAGES, Image
from metropolis.metal.model.size import SIZES
from metropolis.metal.model.size_image_constraint import (
    SIZE_IMAGE_CONSTRAINTS,
    SizeImageConstraint,
    SizeImageConstraintCreateRequest,
    SizeImageConstraintUpdateRequest,
)
from metropolis.metal.rules.entity_ids import check_id
from metropolis.metal.rules.size_image_constraints import check_image, validate_images
from metropolis.metal.store import Reader, Stored, Transaction


async def check(reader: Reader, size_id: str, image: Stored[Image]) -> None:
    """Refuse an image that may not be installed on a size.

    Raises:
        FailedPreconditionError: why it may not.
    """
    constraint = await reader.lookup(SIZE_IMAGE_CONSTRAINTS, size_id)
    if constraint is not None:
        check_image(size_id, constraint.value.images, image.id)


async def try_constraint(reader: Reader, size_id: str, image_id: str) -> None:
    """Judge a size and an image by their ids.

    Raises:
        NotFoundError: there is no such size or image.
        FailedPreconditionError: the image may not be installed on the size.
    """
    await reader.get(SIZES, size_id)
    await check(reader, size_id, await reader.get(IMAGES, image_id))


async def create_constraint(
    tx: Transaction, request: SizeImageConstraintCreateRequest
) -> Stored[SizeImageConstraint]:
    """Add the constraint of a size.

    Raises:
        InvalidArgumentError: it is not well-formed.
        AlreadyExistsError: the size has one.
    """
    check_id("id", request.id)
    images = {} if request.constraints is None else request.constraints.images or {}
    validate_images(images)
    constraint = SizeImageConstraint(
        name=request.name or "", description=request.description or "", images=images
    )
    return await tx.insert(SIZE_IMAGE_CONSTRAINTS, request.id, constraint)


async def update_constraint(
    tx: Transaction, request: SizeImageConstraintUpdateRequest
) -> Stored[SizeImageConstraint]:
    """Change what the request names.

    Raises:
        NotFoundError: the size has no constraint.
        InvalidArgumentError: it would not be well-formed.
    """
    old = await tx.get(SIZE_IMAGE_CONSTRAINTS, request.id)
    before = old.value
    images = before.images if request.constraints is None else request.constraints.images or {}
    validate_images(images)
    constraint = SizeImageConstraint(
        name=before.name if request.name is None else request.name,
        description=before.description if request.description is None else request.description,
        images=images,
    )
    return await tx.replace(old, constraint)


async def delete_constraint(tx: Transaction, size_id: str) -> Stored[SizeImageConstraint]:
    """Remove the constraint of a size.

    Raises:
        NotFoundError: the size has none.
    """
    constraint = await tx.get(SIZE_IMAGE_CONSTRAINTS, size_id)
    await tx.delete(constraint)
    return constraint
