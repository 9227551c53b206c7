# SPDX-License-Identifier: Apache-2.0
"""Images: operating systems that machines can be installed with."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, TypeAlias

from msgspec import Struct, field

from metropolis.metal.store import Kind, Stored

Classification: TypeAlias = Literal["deprecated", "preview", "supported"]
ImageFeature: TypeAlias = Literal["firewall", "machine"]


class Image(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An image as it is stored, under its id `<os>-<major>.<minor>[.<patch>]`.

    Attributes:
        os: What stands before the version in the id.
        version: What follows, as written.
        expires: From when on it may be cleaned away once no machine uses it.
        features: What it can be installed as.
    """

    os: str
    version: str
    url: str
    expires: datetime = field(name="expirationDate")
    classification: Classification = "preview"
    features: tuple[ImageFeature, ...] = ()
    name: str = ""
    description: str = ""


IMAGES = Kind(name="image", type=Image, facets={"os": lambda image: (image.os,)})


class ImageCreateRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `createImage` takes."""

    id: str
    url: str
    classification: Literal["", "deprecated", "preview", "supported"] | None = None
    expires: datetime | None = field(name="expirationDate", default=None)
    features: tuple[ImageFeature, ...] | None = None
    name: str | None = None
    description: str | None = None


class ImageUpdateRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `updateImage` takes; what is absent stays, and who uses an image is not told here."""

    id: str
    url: str | None = None
    classification: Literal["", "deprecated", "preview", "supported"] | None = None
    expires: datetime | None = field(name="expirationDate", default=None)
    features: tuple[ImageFeature, ...] | None = None
    name: str | None = None
    description: str | None = None
    used_by: tuple[str, ...] | None = field(name="usedby", default=None)


class ImageFindRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is looked for; what is absent matches everything."""

    id: str | None = None
    name: str | None = None
    os: str | None = None
    version: str | None = None
    classification: Classification | None = None
    features: tuple[ImageFeature, ...] | None = None


class ImageResponse(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An image on the wire.

    Attributes:
        used_by: Ids of the machines that are installed with it, when that was asked for.
    """

    id: str
    name: str
    description: str
    url: str
    classification: str
    expires: datetime = field(name="expirationDate")
    features: tuple[str, ...]
    used_by: tuple[str, ...] | None = field(name="usedby", default=None)
    created: datetime | None = None
    changed: datetime | None = None

    @classmethod
    def of(cls, image: Stored[Image], *, used_by: Iterable[str] | None = None) -> "ImageResponse":
        """Show a stored image."""
        value = image.value
        return cls(
            id=image.id,
            name=value.name,
            description=value.description,
            url=value.url,
            classification=value.classification,
            expires=value.expires,
            features=value.features,
            used_by=None if used_by is None else tuple(used_by),
            created=image.created,
            changed=image.changed,
        )
