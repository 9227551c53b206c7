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
    NotFoundError,
    UnavailableError,
    chain,
)
from metropolis.host.linux.debian.apt_root import SUITE, AptRoot
from metropolis.host.linux.debian.lock import Package, format_lock, parse_lock
from metropolis.host.linux.debian.mirror import MIRROR_VARIABLE, debian_mirrors, printable
from metropolis.host.linux.programs import locked, run_program

_UNPACK_TIMEOUT_S: Final = 300.0
_NOTES: Final = ".packages"  # what was unpacked, in the form of the lock
_NAMED_MAX: Final = 3  # more packages are counted, not named

Say = Callable[[str], None]


class Apt(Protocol):
    """Where packages come from; see `AptRoot`."""

    def update(self, mirror: str) -> None: ...

    def available(self, names: Sequence[str]) -> Mapping[str, Sequence[Package]]: ...

    def depends(self, name: str) -> Sequence[str]: ...

    def download(
        self, packages: Sequence[Package], destination: Path
    ) -> Mapping[Package, Path]: ...


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
        """Return the directory that one package is unpacked in; see `fetch_all`."""
        return self.fetch_all([name])[name]

    def fetch_all(
        self, names: Sequence[str], *, pointers: Mapping[str, str] | None = None
    ) -> Mapping[str, Path]:
        """Return the directory that each package is unpacked in, fetching what is missing.

        Args:
            pointers: For packages that have their version in their name: another package that
                depends on the newest of them, for when the suite has the named one no more.

        Raises:
            UnavailableError: no mirror could be used.
            NotFoundError: the suite has no such package.
            DataLossError: Debian's mirror has other bytes for the locked version.
            FailedPreconditionError: the locked version is gone and `is_strict`, or this machine
                is no Debian.
        """
        if all(self.cached(name) for name in names):
            return self._cached_all(names)
        self.cache.mkdir(parents=True, exist_ok=True)
        with locked(self.cache / ".lock"):
            missing = [name for name in names if self.cached(name) is None]
            if missing:
                self._fetch(missing, pointers or {})
        return self._cached_all(names)

    def identify(self, name: str) -> Package:
        """What lies in the directory of a package that was fetched."""
        tree = self.cached(name)
        assert tree is not None, f"{name} was not fetched"
        for package in self.locked():
            if _tree_name(package) == tree.name:
                return package
        (package,) = parse_lock((self.cache / _NOTES / tree.name).read_text(encoding="utf-8"))
        return package

    def _cached_all(self, names: Sequence[str]) -> Mapping[str, Path]:
        trees = {name: self.cached(name) for name in names}
        return {name: tree for name, tree in trees.items() if tree is not None}

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
        """Ask the mirror for the newest signed version of each package, to write a lock.

        A name that ends with `!` stands for the packages that it depends on: Debian's kernels have
        their version in their name, and a package without one that leads to the newest.

        Raises:
            NotFoundError: the suite has no such package.
        """
        self.cache.mkdir(parents=True, exist_ok=True)
        with locked(self.cache / ".lock"):
            apt = self._updated_apt()
            plain = [name for name in names if not name.endswith("!")]
            for name in names:
                plain += apt.depends(name[:-1]) if name.endswith("!") else ()
            available = apt.available(plain)
            return tuple(_of(available, name)[0] for name in plain)

    def locked(self) -> Sequence[Package]:
        """All packages of the lock that this machine's architecture can use."""
        return [
            package
            for package in parse_lock(self.lock_file.read_text(encoding="utf-8"))
            if package.architecture in {self.architecture, "all"}
        ]

    def _locked(self, name: str) -> Sequence[Package]:
        return [package for package in self.locked() if package.name == name]

    def _substitute(self, name: str) -> Path:
        """A link named after the lock it replaces, so that a refreshed lock ends its use."""
        versions = "+".join(package.version for package in self._locked(name)) or "unlocked"
        return self.cache / f"{name}_instead-of-{versions}"

    def _fetch(self, names: Sequence[str], pointers: Mapping[str, str]) -> None:
        apt = self._updated_apt()
        available = dict(apt.available(names))
        for name in names:
            if name not in available and name in pointers and not self.is_strict:
                (successor,) = apt.depends(pointers[name])
                available[name] = _of(apt.available([successor]), successor)
        chosen = {name: self._choose(name, _of(available, name)) for name in names}
        trees = self._download(apt, list(chosen.values()))
        for name, package in chosen.items():
            if package not in self._locked(name):
                link = self._substitute(name)
                link.unlink(missing_ok=True)
                link.symlink_to(trees[package].name)

    def _choose(self, name: str, available: Sequence[Package]) -> Package:
        wanted = {
            (package.version, package.architecture): package for package in self._locked(name)
        }
        for package in available:
            ours = wanted.get((package.version, package.architecture))
            if ours is not None:
                return ours
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
        return newest

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

    def _download(self, apt: Apt, packages: Sequence[Package]) -> Mapping[Package, Path]:
        if len(packages) <= _NAMED_MAX:
            self.say("Downloading " + ", ".join(f"{p.name} {p.version}" for p in packages))
        else:
            self.say(f"Downloading {len(packages)} packages of Debian {SUITE}")
        with tempfile.TemporaryDirectory(dir=self.cache, prefix=".unpack-") as scratch:
            files = apt.download(packages, Path(scratch))
            return {package: self._unpack(package, files[package]) for package in packages}

    def _unpack(self, package: Package, file: Path) -> Path:
        tree = self.cache / _tree_name(package)
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if not hmac.compare_digest(digest, package.sha256):
            raise DataLossError(
                f"{package.name} {package.version} has SHA-256 {digest}, not the locked one",
                remedy="Do not use this mirror: it has other bytes for a version we know.",
            )
        unpacked = file.parent / f"{package.name}.tree"
        run_program(["dpkg-deb", "-x", str(file), str(unpacked)], timeout_s=_UNPACK_TIMEOUT_S)
        file.unlink()
        unpacked.chmod(0o755)
        if tree.exists():
            shutil.rmtree(tree)
        notes = self.cache / _NOTES
        notes.mkdir(exist_ok=True)
        (notes / tree.name).write_text(format_lock([package]), encoding="utf-8")
        unpacked.rename(tree)
        return tree


def _of(available: Mapping[str, Sequence[Package]], name: str) -> Sequence[Package]:
    if name not in available:
        raise NotFoundError(
            f"Debian {SUITE} has no package {name}",
            remedy="Run `make lock-packages`, run the tests, and commit the lock.",
        )
    return available[name]


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
