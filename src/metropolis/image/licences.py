# SPDX-License-Identifier: Apache-2.0
"""The licence of everything in an image, as its makers ship it.

    licences/metropolis/LICENSE
    licences/debian/PACKAGE/copyright
    licences/wheels/NAME/FILE          licence files of the wheel, its METADATA where it has none

What was only run while building has none here.
"""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from metropolis.base.errors import NotFoundError
from metropolis.image.manifest import ImageInputs, PackageInput, WheelInput

DIRECTORY: Final = "licences"
_DOCUMENTS: Final = "usr/share/doc"
_LICENCE_FILE: Final = re.compile(r"(licen[cs]e|copying|notice|authors)", re.IGNORECASE)
_DECLARED: Final = re.compile(r"^License(?:-Expression)?: (\S[^\n]*)$", re.MULTILINE)


def licence_files(inputs: ImageInputs, *, checkout: Path) -> Mapping[str, bytes]:
    """Return every licence by its path in an image's directory.

    Raises:
        NotFoundError: a package or wheel comes without one.
    """
    files = {f"{DIRECTORY}/metropolis/LICENSE": (checkout / "LICENSE").read_bytes()}
    for package in inputs.packages:
        if is_inside(package):
            name = package.package.name
            files[f"{DIRECTORY}/debian/{name}/copyright"] = _copyright(package, inputs)
    for wheel in inputs.wheels:
        for name, content in _wheel_licences(wheel).items():
            files[f"{DIRECTORY}/wheels/{wheel.name}/{name}"] = content
    return dict(sorted(files.items()))


def is_inside(package: PackageInput) -> bool:
    """Whether something of a package is in the image; else it was only run while building."""
    return package.use != "tool"


def declared_licence(wheel: WheelInput) -> str:
    """Return what a wheel's METADATA says of its licence, in its own words; may be empty."""
    with zipfile.ZipFile(wheel.file) as archive:
        metadata = archive.read(_metadata_name(archive)).decode("utf-8", "replace")
    found = _DECLARED.search(metadata.partition("\n\n")[0])
    return found[1].strip() if found else ""


def _copyright(package: PackageInput, inputs: ImageInputs) -> bytes:
    """Debian lets packages of one source share the file: then the directory is a link."""
    name = package.package.name
    place = package.tree / _DOCUMENTS / name
    keeper = place.readlink().name if place.is_symlink() else name
    for other in inputs.packages:
        path = other.tree / _DOCUMENTS / keeper / "copyright"
        if other.package.name == keeper and path.is_file():
            return path.read_bytes()
    raise NotFoundError(
        f"the package {name} comes without its licence, which {keeper} has",
        remedy=f"Add {keeper} to the packages of images/node.toml, and run `make lock-packages`.",
    )


def _wheel_licences(wheel: WheelInput) -> Mapping[str, bytes]:
    with zipfile.ZipFile(wheel.file) as archive:
        metadata = _metadata_name(archive)
        place = PurePosixPath(metadata).parent
        names = [
            name
            for name in archive.namelist()
            if PurePosixPath(name).is_relative_to(place)
            and not name.endswith("/")
            and _LICENCE_FILE.match(PurePosixPath(name).name)
        ]
        return {
            str(PurePosixPath(name).relative_to(place)).removeprefix("licenses/"): (
                archive.read(name)
            )
            for name in names or [metadata]
        }


def _metadata_name(archive: zipfile.ZipFile) -> str:
    for name in archive.namelist():
        path = PurePosixPath(name)
        if path.name == "METADATA" and path.parent.suffix == ".dist-info" and len(path.parts) == 2:  # noqa: PLR2004  # NAME.dist-info/METADATA, not deeper
            return name
    raise NotFoundError(f"{archive.filename} is no wheel: it has no METADATA")
