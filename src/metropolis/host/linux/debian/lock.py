# SPDX-License-Identifier: Apache-2.0
"""The lock file: which package bytes we have built and tested with."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from metropolis.base.errors import InvalidArgumentError

_HEADER: Final = """\
# SPDX-License-Identifier: Apache-2.0
# Packages of Debian trixie that we run. Refresh with `make lock-packages`, never by hand.
# name version architecture sha256
"""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_VERSION: Final = re.compile(r"[0-9][A-Za-z0-9.+:~-]*")
_ARCHITECTURE: Final = re.compile(r"[a-z0-9-]+")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Package:
    """One binary package. `sha256` is of the .deb file, in hexadecimal."""

    name: str
    architecture: str
    version: str
    sha256: str

    def __post_init__(self) -> None:
        is_well_formed = (
            _NAME.fullmatch(self.name)
            and _VERSION.fullmatch(self.version)
            and _ARCHITECTURE.fullmatch(self.architecture)
            and _SHA256.fullmatch(self.sha256)
        )
        if not is_well_formed:  # these become file names and arguments
            raise InvalidArgumentError(
                f"{self.name!r} {self.version!r} {self.architecture!r} is not a locked package",
                remedy="Run `make lock-packages`.",
            )


def parse_lock(text: str) -> Sequence[Package]:
    """Read a lock file.

    Raises:
        InvalidArgumentError: a line is not `name version architecture sha256`.
    """
    packages: list[Package] = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != len(("name", "version", "architecture", "sha256")):
            raise InvalidArgumentError(
                f"the package lock has a line {line!r}", remedy="Run `make lock-packages`."
            )
        name, version, architecture, sha256 = words
        packages.append(
            Package(name=name, version=version, architecture=architecture, sha256=sha256)
        )
    return tuple(packages)


def format_lock(packages: Iterable[Package]) -> str:
    """Write a lock file, sorted, so that a refresh shows only what changed."""
    lines = (f"{p.name} {p.version} {p.architecture} {p.sha256}\n" for p in sorted(packages))
    return _HEADER + "".join(lines)
