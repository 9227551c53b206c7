# SPDX-License-Identifier: Apache-2.0
"""Filesystem layouts: create, change, delete, and choose the one for a size and an image."""

from metropolis.base.errors import FailedPreconditionError
from metropolis.metal.model.image import IMAGES, Image
from metropolis.metal.model.layout import LAYOUTS, FilesystemLayout
from metropolis.metal.model.layout_request import FilesystemLayoutCreateRequest
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.size import SIZES
from metropolis.metal.rules import layouts as rules
from metropolis.metal.rules.entity_ids import check_id
from metropolis.metal.rules.layouts import check_hardware, is_reinstallable
from metropolis.metal.store import Reader, Stored, Transaction

__all__ = [
    "check_hardware",
    "choose",
    "create_layout",
    "delete_layout",
    "is_reinstallable",
    "match_layout",
    "try_layout",
    "update_layout",
]


async def choose(reader: Reader, size_id: str, image: Stored[Image]) -> Stored[FilesystemLayout]:
    """Return the layout for a size and an image; collisions are refused, so there is at most one.

    Raises:
        FailedPreconditionError: there is none.
    """
    for layout in await reader.find(LAYOUTS):
        if rules.is_for(layout.value, size_id, image.id):
            return layout
    raise FailedPreconditionError(
        f"no filesystem layout is for size {size_id} and image {image.id}",
        remedy="Add the size and the operating system to a layout, or name a layout.",
    )


async def try_layout(reader: Reader, size_id: str, image_id: str) -> Stored[FilesystemLayout]:
    """Return the layout that a machine of a size would get with an image.

    Raises:
        NotFoundError: there is no such size or image.
        FailedPreconditionError: there is no layout for them.
    """
    await reader.get(SIZES, size_id)
    return await choose(reader, size_id, await reader.get(IMAGES, image_id))


async def match_layout(reader: Reader, layout_id: str, machine_id: str) -> Stored[FilesystemLayout]:
    """Return a layout that fits a machine's disks.

    Raises:
        NotFoundError: there is no such layout or machine.
        FailedPreconditionError: it does not fit, and why.
    """
    layout = await reader.get(LAYOUTS, layout_id)
    machine = await reader.get(MACHINES, machine_id)
    check_hardware(layout.value, machine.value.hardware)
    return layout


async def create_layout(
    tx: Transaction, request: FilesystemLayoutCreateRequest
) -> Stored[FilesystemLayout]:
    """Add a layout.

    Raises:
        InvalidArgumentError: it cannot be built, or collides with another one.
        AlreadyExistsError: there is one with this id.
    """
    check_id("id", request.id)
    layout = request.stored()
    await _check(tx, request.id, layout)
    return await tx.insert(LAYOUTS, request.id, layout)


async def update_layout(
    tx: Transaction, request: FilesystemLayoutCreateRequest
) -> Stored[FilesystemLayout]:
    """Replace a layout as a whole; machines keep the one that they were allocated with.

    Raises:
        NotFoundError: there is no such layout.
        InvalidArgumentError: it cannot be built, or collides with another one.
    """
    old = await tx.get(LAYOUTS, request.id)
    layout = request.stored()
    await _check(tx, request.id, layout)
    return await tx.replace(old, layout)


async def delete_layout(tx: Transaction, layout_id: str) -> Stored[FilesystemLayout]:
    """Remove a layout; machines keep the one that they were allocated with.

    Raises:
        NotFoundError: there is no such layout.
    """
    layout = await tx.get(LAYOUTS, layout_id)
    await tx.delete(layout)
    return layout


async def _check(tx: Transaction, layout_id: str, layout: FilesystemLayout) -> None:
    rules.validate(layout)
    others = [(other.id, other.value) for other in await tx.find(LAYOUTS)]
    rules.refuse_collision(layout_id, layout, others)
