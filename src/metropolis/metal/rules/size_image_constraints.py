# SPDX-License-Identifier: Apache-2.0
"""Whether an image may be installed on a size."""

from collections.abc import Mapping

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.metal.rules.image_ids import parse_image_id
from metropolis.metal.rules.semver import parse_constraint


def validate_images(images: Mapping[str, str]) -> None:
    """Judge a table of version constraints by operating system.

    Raises:
        InvalidArgumentError: an operating system is `*` or empty, or a constraint not understood.
    """
    for os, constraint in images.items():
        if os in ("", "*"):
            raise InvalidArgumentError(
                f"constraints.images: operating system {os!r} is not allowed",
                remedy="Name one operating system per constraint; leave out those that may be "
                "installed in every version.",
            )
        parse_constraint(constraint)


def check_image(size_id: str, images: Mapping[str, str], image_id: str) -> None:
    """Refuse an image that the constraints of a size do not allow.

    Raises:
        FailedPreconditionError: its version is not allowed, or has no patch to judge by.
    """
    image = parse_image_id(image_id)
    text = images.get(image.os)
    if text is None:
        return
    if not image.is_exact:
        raise FailedPreconditionError(
            f"image {image_id} has no patch version to judge by, and size {size_id} is "
            f"constrained to {image.os} {text}",
            remedy="Name the image with its patch version.",
        )
    if not parse_constraint(text).allows(image.version):
        raise FailedPreconditionError(
            f"image {image_id} is not allowed on size {size_id}: "
            f"version {image.version} does not satisfy {text!r}",
            remedy=f"Choose an image of {image.os} that satisfies {text!r}, or another size.",
        )
