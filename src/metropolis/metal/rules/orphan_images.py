# SPDX-License-Identifier: Apache-2.0
"""Which images nobody will miss if no machine uses them."""

from collections.abc import Mapping
from datetime import datetime

from metropolis.metal.model.image import Image
from metropolis.metal.rules.image_ids import parse_image_id


def expired(images: Mapping[str, Image], *, now: datetime) -> list[str]:
    """Return the ids of images that expired, sorted.

    The newest of each operating system stays, however old it is: there must be something to
    install.
    """
    newest: dict[str, str] = {}
    for image_id, image in images.items():
        rival = newest.get(image.os)
        if rival is None or _age(image_id) > _age(rival):
            newest[image.os] = image_id
    return sorted(
        image_id
        for image_id, image in images.items()
        if image.expires <= now and newest[image.os] != image_id
    )


def _age(image_id: str) -> tuple[tuple[int, int, int], str]:
    return (parse_image_id(image_id).version.triple, image_id)
