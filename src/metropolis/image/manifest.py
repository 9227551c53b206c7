# SPDX-License-Identifier: Apache-2.0
"""What an image was made from: every package, wheel and file, with where it came from.

    manifest.json   "packages"  Debian's, with the digest of the .deb and what it is used for
                    "wheels"    with the digest of the .whl
                    "files"     every file of the system partition: digest, size, mode, origin
                    "initrd"    paths of the files that the initrd has, too

Origins are `package NAME`, `wheel NAME`, `metropolis` for our own code, `declaration`, and `packed`
for files that hold modules of others a second time, for a quick import.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from metropolis.host.linux.debian.lock import Package
from metropolis.image.declaration import Declaration
from metropolis.image.kernel_modules import PLACE
from metropolis.image.ready_code import PACK_PLACE
from metropolis.image.sysroot import package_files
from metropolis.image.tree import FILE_MODE, PROGRAM_MODE, File, Tree

MANIFEST_FILE: Final = "manifest.json"
PACKED: Final = "packed"
_SITE_PACKAGE: Final = "metropolis"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageInput:
    """A Debian package of the build.

    Attributes:
        package: Name, version, architecture and digest.
        tree: Where it is unpacked; has `usr/share/doc/NAME/copyright`.
        use: `image`, `kernel`, or `tool` for what is only run while building.
    """

    package: Package
    tree: Path
    use: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelInput:
    """A wheel of the build; its licence is in its `.dist-info`."""

    name: str
    version: str
    file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInputs:
    """Everything that went into an image."""

    packages: Sequence[PackageInput]
    wheels: Sequence[WheelInput]
    root: Tree
    initrd: Sequence[str]
    declaration: Declaration


def manifest(inputs: ImageInputs) -> Mapping[str, object]:
    """The content of manifest.json."""
    origins = _Origins.of(inputs)
    return {
        "packages": [
            {
                "name": each.package.name,
                "version": each.package.version,
                "architecture": each.package.architecture,
                "sha256": each.package.sha256,
                "use": each.use,
            }
            for each in inputs.packages
        ],
        "wheels": [
            {
                "name": each.name,
                "version": each.version,
                "file": each.file.name,
                "sha256": hashlib.sha256(each.file.read_bytes()).hexdigest(),
            }
            for each in inputs.wheels
        ],
        "files": [
            _file(path, entry, origins.origin(path))
            for path, entry in inputs.root.walk()
            if isinstance(entry, File)
        ],
        "initrd": list(inputs.initrd),
    }


def manifest_json(inputs: ImageInputs) -> bytes:
    """As it is written."""
    return json.dumps(manifest(inputs), indent=1, sort_keys=True).encode() + b"\n"


def _file(path: str, entry: File, origin: str) -> Mapping[str, object]:
    content = entry.read()
    return {
        "path": f"/{path}",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "mode": f"{PROGRAM_MODE if entry.is_program else FILE_MODE:04o}",
        "origin": origin,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origins:
    by_path: Mapping[str, str]
    kernel: str
    site: str

    @classmethod
    def of(cls, inputs: ImageInputs) -> "_Origins":
        by_path: dict[str, str] = {}
        kernel = ""
        for each in inputs.packages:
            if each.use == "kernel":
                kernel = each.package.name
                continue
            for path in package_files(each.tree):
                by_path[path] = f"package {each.package.name}"
        for wheel in inputs.wheels:
            for name in wheel_names(wheel.file):
                by_path[f"{inputs.declaration.site}/{name}"] = f"wheel {wheel.name}"
        return cls(by_path=by_path, kernel=kernel, site=inputs.declaration.site)

    def origin(self, path: str) -> str:
        """Where a file of the image is from."""
        source = path.removesuffix("c") if path.endswith(".pyc") else path
        if path.startswith(f"{self.site}/{_SITE_PACKAGE}/"):
            return "metropolis"
        if path.startswith(f"{PLACE}/") and path.endswith(".ko"):
            return f"package {self.kernel}"
        before_name, _, after_name = f"{self.site}/{PACK_PLACE}".partition("{}")
        if path.startswith(before_name) and path.endswith(after_name):
            return PACKED
        if path == "etc/ssl/cert.pem":
            return "package ca-certificates"
        return self.by_path.get(source, "declaration")


def wheel_names(wheel: Path) -> Sequence[str]:
    """Paths of the files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return tuple(archive.namelist())
