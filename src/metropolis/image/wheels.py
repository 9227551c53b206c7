# SPDX-License-Identifier: Apache-2.0
"""Wheels of requirements.lock, by its hashes, for the image's Python instead of this one's."""

import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from metropolis.base.errors import NotFoundError
from metropolis.host.linux.programs import run_program
from metropolis.image.compiling import matching
from metropolis.image.declaration import Declaration
from metropolis.image.elf import is_elf, without_sections
from metropolis.image.steps import Steps, digest_of
from metropolis.image.tree import File, Tree

PYTHON_VERSION: Final = "3.13"
_ABIS: Final = ("cp313", "abi3", "none")
_TIMEOUT_S: Final = 600.0
_REQUIREMENT: Final = re.compile(
    r"([A-Za-z0-9._-]+)==([^\s;]+)(?:\s*;\s*([^\\]*?))?\s*(?=--hash|$)"
)
_HASH: Final = re.compile(r"--hash=sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One locked distribution.

    Attributes:
        marker: For which systems it is locked (PEP 508), empty for all.
        hashes: Options of pip, one for each of its files.
    """

    name: str
    version: str
    marker: str
    hashes: Sequence[str]

    def line(self) -> str:
        """As pip reads it, without a marker: it is wanted."""
        return " ".join([f"{self.name}=={self.version}", *self.hashes]) + "\n"


def locked_requirements(lock: str) -> Mapping[str, Requirement]:
    """Every distribution of a lock file, by its normal name (PEP 503)."""
    found: dict[str, Requirement] = {}
    for line in lock.replace("\\\n", " ").splitlines():
        if match := _REQUIREMENT.match(line):
            name = normal_name(match[1])
            hashes = tuple(_HASH.findall(line))
            found[name] = Requirement(
                name=name, version=match[2], marker=match[3] or "", hashes=hashes
            )
    return found


def normal_name(name: str) -> str:
    """A distribution's name in the form that is compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def choose(lock: str, names: Sequence[str]) -> Sequence[Requirement]:
    """The wanted distributions, sorted.

    Raises:
        NotFoundError: the lock has no such distribution.
    """
    known = locked_requirements(lock)
    for name in names:
        if normal_name(name) not in known:
            raise NotFoundError(
                f"requirements.lock has no {name}",
                remedy="Correct the name in images/node.toml, or add it to pyproject.toml.",
            )
    return [known[name] for name in sorted(map(normal_name, names))]


def fetch_wheels(
    requirements: Sequence[Requirement], *, platforms: Sequence[str], steps: Steps
) -> Sequence[Path]:
    """Download wheels for the image's Python; pip compares them with the hashes.

    Raises:
        UnavailableError: a distribution has no fitting wheel, or no index could be reached.
    """
    text = "".join(each.line() for each in requirements)
    place = steps.done(
        "wheels",
        digest_of(text, *platforms),
        lambda scratch: _download(text, platforms, scratch),
        title=f"downloading {len(requirements)} wheels",
    )
    return sorted(place.glob("*.whl"))


def _download(text: str, platforms: Sequence[str], directory: Path) -> None:
    wanted = directory / "requirements.txt"
    wanted.write_text(text, encoding="utf-8")
    options = [f"--platform={each}" for each in platforms] + [f"--abi={each}" for each in _ABIS]
    run_program(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q"),
            *("--require-hashes", "--no-deps", "--only-binary=:all:", "--implementation=cp"),
            *(f"--python-version={PYTHON_VERSION}", *options),
            *("--dest", str(directory), "--requirement", str(wanted)),
        ],
        timeout_s=_TIMEOUT_S,
    )


def wheel_tree(wheels: Sequence[Path], declaration: Declaration) -> Tree:
    """The files of wheels that a node needs, below the place of Python packages."""
    tree = Tree()
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            unwanted = matching(names, declaration.wheels_without)
            for name in names:
                if name not in unwanted:
                    content = archive.read(name)
                    if is_elf(content):  # some wheels bring ten megabytes of debugging information
                        content = without_sections(content)
                    tree.add(f"{declaration.site}/{name}", File(content=content))
    return tree
