# SPDX-License-Identifier: Apache-2.0
"""Ids of images: `<os>-<major>.<minor>[.<patch>]`, and which image an id without patch means."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.rules.semver import Constraint, Version, parse_constraint, parse_version

EXPIRES_AFTER = timedelta(days=90)  # from creation, when nothing else was said

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class ImageId:
    """An id, taken apart."""

    os: str
    version: Version
    text: str

    @property
    def is_exact(self) -> bool:
        """Whether it names one image and not the newest of several."""
        return self.version.patch > 0

    def constraint(self) -> Constraint:
        """Return which versions it stands for."""
        version = self.version
        if self.is_exact:
            return parse_constraint(f"= {version}")
        return parse_constraint(f"~ {version.major}.{version.minor}")


def parse_image_id(text: str) -> ImageId:
    """Take an id apart; the operating system is everything before the last dash.

    Raises:
        InvalidArgumentError: there is no dash, no operating system, or no version behind the dash.
    """
    os, _dash, version = text.rpartition("-")
    if not os:
        raise InvalidArgumentError(
            f"image id {text!r} has no operating system and version",
            remedy="Name it <os>-<major>.<minor>[.<patch>], for example ubuntu-24.04.20250101.",
        )
    return ImageId(os=os, version=parse_version(version), text=text)


def matching(
    wanted: ImageId, candidates: Iterable[tuple[ImageId, ItemT]]
) -> list[tuple[ImageId, ItemT]]:
    """Return the images that an id stands for, newest first."""
    constraint = wanted.constraint()
    found = [
        (id_, item)
        for id_, item in candidates
        if id_.os == wanted.os and constraint.allows(id_.version)
    ]
    found.sort(key=lambda pair: (pair[0].version, pair[0].text), reverse=True)
    return found
