# SPDX-License-Identifier: Apache-2.0
"""The locked packages as one directory, and their programs run by their own C library.

So the versions of the build machine's tools do not matter: what compresses, compiles and packs is
what the lock names.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from metropolis.host.linux.programs import run_program

# Where merged-usr has its links: a package may still name the old place.
_MERGED: Final = ("bin", "sbin", "lib", "lib64")
# No program reads these, and they are most of the files.
_UNREAD: Final = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian")
_LOADER: Final = "usr/lib64/ld-linux-x86-64.so.2"
_LIBRARIES: Final = "usr/lib/x86_64-linux-gnu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sysroot:
    """A directory that holds the files of all packages."""

    root: Path

    def path(self, relative: str) -> Path:
        """Where a file of the packages is, following links inside of the directory."""
        path = self.root / relative
        return path.resolve() if path.is_symlink() else path

    def run(
        self,
        program: str,
        *arguments: str,
        timeout_s: float,
        environment: Mapping[str, str] | None = None,
    ) -> bytes:
        """Run a program of the packages; see `run_program`.

        Args:
            program: Its path in its package, for example `usr/bin/zstd`.
        """
        executable = str(self.root / program)
        argv = [
            str(self.root / _LOADER),
            "--library-path",
            str(self.root / _LIBRARIES),
            "--argv0",
            executable,
            executable,
            *arguments,
        ]
        settings = {"LC_ALL": "C", "TZ": "UTC", **(environment or {})}
        return run_program(argv, environment=settings, timeout_s=timeout_s)


def merge_packages(trees: Sequence[Path], root: Path) -> None:
    """Link the files of unpacked packages into one directory."""
    for name in _MERGED:
        (root / name).symlink_to(f"usr/{name}")
    for tree in trees:
        for source, relative in _files(tree):
            target = root / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_symlink():
                if not os.path.lexists(target):
                    target.symlink_to(_relative_target(relative, source.readlink()))
            else:
                _link_or_copy(source, target)


def package_files(tree: Path) -> Sequence[str]:
    """Paths that the files of one unpacked package have in a merged directory."""
    return tuple(relative.as_posix() for _, relative in _files(tree))


def _relative_target(relative: Path, target: Path) -> Path:
    """Absolute links lead into the directory, not to the build machine's files."""
    if not target.is_absolute():
        return target
    return Path(os.path.relpath(str(target).lstrip("/"), str(relative.parent)))


def _files(tree: Path) -> Iterator[tuple[Path, Path]]:
    for directory, names, files in os.walk(tree):
        here = Path(directory).relative_to(tree)
        if here.parts and here.parts[0] in _MERGED:
            here = Path("usr") / here
        names[:] = sorted(name for name in names if str(here / name) not in _UNREAD)
        linked = [name for name in names if (Path(directory) / name).is_symlink()]
        for name in sorted(files) + linked:
            yield Path(directory) / name, here / name


def _link_or_copy(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or hard links are forbidden
        shutil.copy2(source, target)
