# SPDX-License-Identifier: Apache-2.0
"""Which filesystem layout a machine gets, and whether it fits the machine."""

from collections.abc import Iterable
from typing import Final

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.metal.model.hardware import Hardware
from metropolis.metal.model.layout import FilesystemLayout, FilesystemLayoutResponse
from metropolis.metal.rules.image_ids import parse_image_id
from metropolis.metal.rules.layout_devices import validate_devices
from metropolis.metal.rules.semver import parse_constraint

MIB: Final = 2**20

AnyLayout = FilesystemLayout | FilesystemLayoutResponse


def validate(layout: FilesystemLayout) -> None:
    """Judge a layout by itself.

    Raises:
        InvalidArgumentError: what is wrong with it.
    """
    sizes = layout.constraints.sizes
    for at, size in enumerate(sizes):
        if not size or "*" in size:
            raise InvalidArgumentError(
                f"constraints.sizes: {size!r} is not the id of a size",
                remedy="Name every size; patterns are not allowed.",
            )
        if size in sizes[:at]:
            raise InvalidArgumentError(
                f"constraints.sizes: {size!r} is there twice", remedy="Name each size once."
            )
    for os, constraint in layout.constraints.images.items():
        if os in ("", "*"):
            raise InvalidArgumentError(
                f"constraints.images: operating system {os!r} is not allowed",
                remedy="Name every operating system; its version may be *.",
            )
        parse_constraint(constraint)
    validate_devices(layout)


def refuse_collision(
    layout_id: str, layout: FilesystemLayout, others: Iterable[tuple[str, FilesystemLayout]]
) -> None:
    """Refuse a layout that is for the same size and image as another one.

    Raises:
        InvalidArgumentError: with which layout it collides, for which size and operating system.
    """
    for other_id, other in others:
        if other_id == layout_id:
            continue
        collision = _collision(layout, other)
        if collision is not None:
            size, os = collision
            raise InvalidArgumentError(
                f"constraints: layout {layout_id!r} collides with {other_id!r}: both are for size "
                f"{size!r} and some versions of {os!r}",
                remedy="Take the size out of one of them, or separate the versions.",
            )


def _collision(one: FilesystemLayout, other: FilesystemLayout) -> tuple[str, str] | None:
    """Return a size and an operating system for which both could be chosen."""
    shared = [size for size in one.constraints.sizes if size in other.constraints.sizes]
    if not shared:
        return None
    for os, ours in one.constraints.images.items():
        theirs = other.constraints.images.get(os)
        if theirs is not None and parse_constraint(ours).overlaps(parse_constraint(theirs)):
            return shared[0], os
    return None


def is_for(layout: FilesystemLayout, size_id: str, image_id: str) -> bool:
    """Whether a layout is meant for a size and an image."""
    if size_id not in layout.constraints.sizes:
        return False
    image = parse_image_id(image_id)
    constraint = layout.constraints.images.get(image.os)
    return constraint is not None and parse_constraint(constraint).allows(image.version)


def is_reinstallable(layout: AnyLayout) -> bool:
    """Whether a machine with this layout can be installed again, keeping its other disks."""
    return any(disk.wipe_on_reinstall for disk in layout.disks)


def check_hardware(layout: AnyLayout, hardware: Hardware) -> None:
    """Refuse a layout whose disks a machine does not have, or not large enough.

    Raises:
        FailedPreconditionError: which disk is missing or too small.
    """
    present = {_device(disk.name): disk.size_bytes for disk in hardware.disks}
    for disk in layout.disks:
        size_bytes = present.get(disk.device)
        if size_bytes is None:
            raise FailedPreconditionError(
                f"the machine has no disk {disk.device}",
                remedy=f"Choose a layout for the disks that it has: {', '.join(sorted(present))}.",
            )
        needed_bytes = sum(partition.size_mib for partition in disk.partitions) * MIB
        if needed_bytes > size_bytes:
            raise FailedPreconditionError(
                f"disk {disk.device} has {size_bytes // MIB} MiB, "
                f"the layout needs {needed_bytes // MIB}",
                remedy="Choose a layout with smaller partitions, or another machine.",
            )


def _device(name: str) -> str:
    return name if name.startswith("/dev/") else f"/dev/{name}"
