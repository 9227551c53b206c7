# SPDX-License-Identifier: Apache-2.0
"""The content of a file system as a value, and as a tar stream that says nothing of its builder.

Everything belongs to root and has the time zero. Nothing on an image is ever written, so files are
0444, programs and directories 0555.
"""

import hashlib
import stat
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from metropolis.base.errors import AlreadyExistsError

FILE_MODE: Final = 0o444
PROGRAM_MODE: Final = 0o555
DIRECTORY_MODE: Final = 0o555


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A regular file. `content` is its bytes, or where they are."""

    content: bytes | Path
    is_program: bool = False

    def read(self) -> bytes:
        """Its bytes."""
        return self.content.read_bytes() if isinstance(self.content, Path) else self.content


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A directory that is there even when it is empty."""


Entry = File | Link | Folder


@dataclass(slots=True)
class Tree:
    """Entries by path, without a leading slash. Parents come by themselves."""

    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])

    def add(self, path: str, entry: Entry) -> None:
        """Add one entry.

        Raises:
            AlreadyExistsError: something else has this path.
        """
        assert path, "the root directory is there by itself"
        assert str(PurePosixPath(path)) == path, f"{path} is not a plain path"
        assert not path.startswith("/"), f"{path} is not relative to the root"
        if self.entries.setdefault(path, entry) != entry:
            raise AlreadyExistsError(
                f"two inputs want to be /{path}", remedy="Take one out of the declaration."
            )

    def merged(self, other: "Tree") -> "Tree":
        """Both, in a new tree."""
        both = Tree(dict(self.entries))
        for path, entry in other.entries.items():
            both.add(path, entry)
        return both

    def walk(self) -> Iterator[tuple[str, Entry]]:
        """Every entry and every parent directory, sorted, parents first."""
        whole: dict[str, Entry] = {}
        for path, entry in self.entries.items():
            for parent in PurePosixPath(path).parents:
                if str(parent) != ".":
                    whole.setdefault(str(parent), Folder())
            whole[path] = entry
        return iter(sorted(whole.items(), key=lambda pair: pair[0].split("/")))

    def programs(self) -> tuple[str, ...]:
        """Paths of everything executable."""
        return tuple(
            path for path, entry in self.walk() if isinstance(entry, File) and entry.is_program
        )


def write_tar(tree: Tree, output: BinaryIO) -> None:
    """Write the tree as a tar archive (POSIX pax format without any header that varies)."""
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, entry in (("./", Folder()), *tree.walk()):
            info = tarfile.TarInfo(path)
            content = b""
            match entry:
                case File():
                    content = entry.read()
                    info.size = len(content)
                    info.mode = PROGRAM_MODE if entry.is_program else FILE_MODE
                case Link(target=target):
                    info.type = tarfile.SYMTYPE
                    info.linkname = target
                    info.mode = 0o777
                case Folder():
                    info.type = tarfile.DIRTYPE
                    info.mode = DIRECTORY_MODE
            archive.addfile(info, BytesIO(content))


def digests(tree: Tree) -> Mapping[str, str]:
    """SHA-256 of every file by path, in hexadecimal."""
    return {
        path: hashlib.sha256(entry.read()).hexdigest()
        for path, entry in tree.walk()
        if isinstance(entry, File)
    }


def file_of(path: Path) -> File:
    """A file of the build machine, executable if it is there."""
    return File(content=path, is_program=bool(path.stat().st_mode & stat.S_IXUSR))
