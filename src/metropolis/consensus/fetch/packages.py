# SPDX-License-Identifier: Apache-2.0
"""Locked packages, downloaded once, verified twice (Debian's signature, our lock), unpacked."""

import contextlib
import hashlib
import hmac
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from metropolis.base.errors import (
    DataLossError,
    FailedPreconditionError,
    UnavailableError,
    chain,
)
from metropolis.consensus.fetch.apt_root import SUITE, AptRoot
from metropolis.consensus.fetch.lock import Package, parse_lock
from metropolis.consensus.fetch.mirror import MIRROR_VARIABLE, debian_mirrors, printable
from metropolis.host.linux.programs import locked, run_program

_UNPACK_TIMEOUT_S: Final = 300.0

Say = Callable[[str], None]


class Apt(Protocol):
    """Where packages come from; see `AptRoot`."""

    def update(self, mirror: str) -> None: ...

    def available(self, name: str) -> Sequence[Package]: ...

    def download(self, package: Package, destination: Path) -> Path: ...


def _architecture() -> str:
    """Debian's name of this machine's architecture, without running anything."""
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetcher:
    """Gets packages into a cache directory.

    Attributes:
        cache: Holds one directory per package and version, and the private apt root.
        lock_file: See `lock`.
        environment: Where overrides are read from, usually `os.environ`.
        say: Told one line per step that takes time, and warnings.
        is_strict: Refuse a newer version than the locked one, even though Debian signed it.
        architecture: Debian's name of this machine's.
        open_apt: Opens the private apt root in a directory.
    """

    cache: Path
    lock_file: Path
    environment: Mapping[str, str]
    say: Say
    is_strict: bool = False
    open_apt: Callable[[Path], Apt] = AptRoot
    architecture: str = field(default_factory=_architecture)

    def fetch(self, name: str) -> Path:
        """Return the directory that the package is unpacked in, fetching it if need be.

        Raises:
            UnavailableError: no mirror could be used.
            DataLossError: Debian's mirror has other bytes for the locked version.
            FailedPreconditionError: the locked version is gone and `is_strict`, or this machine
                is no Debian.
        """
        if (tree := self.cached(name)) is not None:
            return tree
        self.cache.mkdir(parents=True, exist_ok=True)
        with locked(self.cache / ".lock"):
            return self.cached(name) or self._fetch(name)

    def cached(self, name: str) -> Path | None:
        """The directory of the locked version, or of what stood in for it, if it is there."""
        substitute = self._substitute(name)
        if not self.is_strict and substitute.is_dir():
            return substitute.resolve()
        for package in self._locked(name):
            if (tree := self.cache / _tree_name(package)).is_dir():
                return tree
        return None

    def newest(self, names: Sequence[str]) -> Sequence[Package]:
        """Ask the mirror for the newest signed version of each package, to write a lock."""
        self.cache.mkdir(parents=True, exist_ok=True)
        with locked(self.cache / ".lock"):
            apt = self._updated_apt()
            return tuple(apt.available(name)[0] for name in names)

    def _locked(self, name: str) -> Sequence[Package]:
        return [
            package
            for package in parse_lock(self.lock_file.read_text(encoding="utf-8"))
            if (package.name, package.architecture) == (name, self.architecture)
        ]

    def _substitute(self, name: str) -> Path:
        """A link named after the lock it replaces, so that a refreshed lock ends its use."""
        versions = "+".join(package.version for package in self._locked(name)) or "unlocked"
        return self.cache / f"{name}_instead-of-{versions}"

    def _fetch(self, name: str) -> Path:
        apt = self._updated_apt()
        available = apt.available(name)
        wanted = {
            (package.version, package.architecture): package for package in self._locked(name)
        }
        for package in available:
            ours = wanted.get((package.version, package.architecture))
            if ours is not None:
                return self._download(apt, ours)
        newest = available[0]
        if self.is_strict:
            raise FailedPreconditionError(
                f"the mirror has {name} {newest.version}, not the locked version",
                remedy="Run `make lock-packages`, run the tests, and commit the lock.",
            )
        self.say(
            f"WARNING: the package lock is out of date: the mirror has {name} {newest.version} "
            f"({newest.architecture}). Going on with it, because Debian signed it. "
            "Run `make lock-packages` to refresh the lock."
        )
        tree = self._download(apt, newest)
        link = self._substitute(name)
        link.unlink(missing_ok=True)
        link.symlink_to(tree.name)
        return tree

    def _updated_apt(self) -> Apt:
        apt = self.open_apt(self.cache / "apt")
        failures: list[str] = []
        for mirror in debian_mirrors(self.environment):
            self.say(f"Fetching the package list of Debian {SUITE} from {printable(mirror)}")
            try:
                apt.update(mirror)
            except UnavailableError as failure:
                failures.append(printable(f"{mirror}: {chain(failure)}"))
            else:
                return apt
        raise UnavailableError(
            "no Debian mirror could be used: " + "; ".join(failures),
            remedy=f"Check the network, or set {MIRROR_VARIABLE} to a mirror that has {SUITE}.",
        )

    def _download(self, apt: Apt, package: Package) -> Path:
        self.say(f"Downloading {package.name} {package.version}")
        tree = self.cache / _tree_name(package)
        with tempfile.TemporaryDirectory(dir=self.cache, prefix=".unpack-") as scratch:
            file = apt.download(package, Path(scratch))
            with file.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            if not hmac.compare_digest(digest, package.sha256):
                raise DataLossError(
                    f"{package.name} {package.version} has SHA-256 {digest}, not the locked one",
                    remedy="Do not use this mirror: it has other bytes for a version we know.",
                )
            unpacked = Path(scratch) / "tree"
            run_program(["dpkg-deb", "-x", str(file), str(unpacked)], timeout_s=_UNPACK_TIMEOUT_S)
            unpacked.chmod(0o755)
            if tree.exists():
                shutil.rmtree(tree)
            unpacked.rename(tree)
        return tree


def _tree_name(package: Package) -> str:
    return f"{package.name}_{package.version}"


def write_lock(path: Path, text: str) -> None:
    """Replace the lock file in one step."""
    temporary = path.with_suffix(".lock.new")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.rename(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
