# SPDX-License-Identifier: Apache-2.0
"""Images: create, change, find, delete, and resolve `ubuntu-24.04` to the newest of its patches."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from metropolis.metal.model.image import (
    IMAGES,
    Image,
    ImageCreateRequest,
    ImageFeature,
    ImageFindRequest,
    ImageUpdateRequest,
)
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.rules.entity_ids import check_id
from metropolis.metal.rules.image_ids import EXPIRES_AFTER, matching, parse_image_id
from metropolis.metal.store import Reader, Stored, Transaction


async def resolve(reader: Reader, image_id: str) -> Stored[Image]:
    """Return the image that an id means: exactly that, or the newest patch of major and minor.

    Raises:
        InvalidArgumentError: it is no id of an image.
        NotFoundError: there is no such image.
    """
    return (await resolve_all(reader, image_id))[0]


async def resolve_all(reader: Reader, image_id: str) -> list[Stored[Image]]:
    """Return all images that an id stands for, newest first.

    Raises:
        InvalidArgumentError: it is no id of an image.
        NotFoundError: there is none.
    """
    wanted = parse_image_id(image_id)
    images = await reader.find(IMAGES, {"os": wanted.os})
    found = [
        image
        for _, image in matching(wanted, ((parse_image_id(image.id), image) for image in images))
    ]
    if not found:
        raise NotFoundError(
            f"no image for id {image_id!r} found",
            remedy="List the images and choose one, or create it.",
        )
    exact = [image for image in found if image.id == image_id]
    return exact if wanted.is_exact and exact else found


async def create_image(tx: Transaction, request: ImageCreateRequest) -> Stored[Image]:
    """Add an image, a preview that expires in 90 days if nothing else was said.

    Raises:
        InvalidArgumentError: id or URL is not well-formed.
        AlreadyExistsError: there is one with this id.
    """
    parsed = parse_image_id(check_id("id", request.id))
    if not request.url:
        raise InvalidArgumentError(
            "url: an image needs one", remedy="Say where the image can be loaded from."
        )
    image = Image(
        os=parsed.os,
        version=request.id.removeprefix(f"{parsed.os}-"),
        url=request.url,
        expires=_in_utc(request.expires) or tx.now + EXPIRES_AFTER,
        classification=request.classification or "preview",
        features=_unique(request.features or ()),
        name=request.name or "",
        description=request.description or "",
    )
    return await tx.insert(IMAGES, request.id, image)


async def update_image(tx: Transaction, request: ImageUpdateRequest) -> Stored[Image]:
    """Change what the request names; id and version of an image never change.

    Raises:
        NotFoundError: there is no such image.
    """
    old = await tx.get(IMAGES, request.id)
    before = old.value
    image = Image(
        os=before.os,
        version=before.version,
        url=request.url or before.url,
        expires=_in_utc(request.expires) or before.expires,
        classification=request.classification or before.classification,
        features=before.features if request.features is None else _unique(request.features),
        name=before.name if request.name is None else request.name,
        description=before.description if request.description is None else request.description,
    )
    return await tx.replace(old, image)


async def delete_image(tx: Transaction, image_id: str) -> Stored[Image]:
    """Remove an image that no machine is installed with.

    Raises:
        NotFoundError: there is no such image.
        FailedPreconditionError: machines use it, naming some.
    """
    image = await tx.get(IMAGES, image_id)
    count = await tx.count(MACHINES, {"image": image_id})
    if count:
        users = await tx.find(MACHINES, {"image": image_id}, limit=5)
        raise FailedPreconditionError(
            f"image {image_id} is in use by {count} machines: "
            f"{', '.join(machine.id for machine in users)}",
            remedy="Free or reinstall these machines first; until then classify the image as "
            "deprecated.",
        )
    await tx.delete(image)
    return image


async def usage(reader: Reader) -> Mapping[str, Sequence[str]]:
    """Return the ids of machines by the image that they are allocated with."""
    machines = await reader.find(MACHINES, {"allocated": True})
    users: dict[str, list[str]] = {}
    for machine in machines:
        users.setdefault(machine.value.image_id, []).append(machine.id)
    return users


async def find_images(reader: Reader, request: ImageFindRequest) -> list[Stored[Image]]:
    """Return the images that have everything that was asked for."""
    images = await reader.find(IMAGES, None if request.os is None else {"os": request.os})
    return [image for image in images if _is_wanted(image, request)]


def _is_wanted(image: Stored[Image], request: ImageFindRequest) -> bool:
    value = image.value
    pairs = (
        (request.id, image.id),
        (request.name, value.name),
        (request.version, value.version),
        (request.classification, value.classification),
    )
    return all(wanted is None or wanted == actual for wanted, actual in pairs) and all(
        feature in value.features for feature in request.features or ()
    )


def _unique(features: Sequence[ImageFeature]) -> tuple[ImageFeature, ...]:
    return tuple(dict.fromkeys(features))


def _in_utc(time: datetime | None) -> datetime | None:
    """Read a time without a zone as UTC."""
    if time is None:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
