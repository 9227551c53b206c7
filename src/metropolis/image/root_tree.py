# SPDX-License-Identifier: Apache-2.0
"""The node's root file system as a tree: programs and what they need, Python, modules, files."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from metropolis.base.errors import NotFoundError
from metropolis.image.compiling import matching
from metropolis.image.declaration import Declaration
from metropolis.image.elf import interpreter, is_elf, needed_libraries
from metropolis.image.sysroot import Sysroot
from metropolis.image.tree import File, Folder, Link, Tree

_LOADER_PLACE: Final = "usr/lib64"
_CERTIFICATES: Final = "usr/share/ca-certificates/mozilla"
_CERTIFICATE_BUNDLE: Final = "etc/ssl/cert.pem"
_OUR_PACKAGE: Final = "metropolis"


def program_tree(sysroot: Sysroot, declaration: Declaration) -> Tree:
    """The programs."""
    tree = Tree()
    for name in declaration.programs:
        tree.add(name, File(content=_existing(sysroot.path(name)), is_program=True))
    return tree


def stdlib_tree(sysroot: Sysroot, declaration: Declaration) -> Tree:
    """Python's standard library, as sources."""
    tree = Tree()
    place = sysroot.path(declaration.stdlib)
    paths = [path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()]
    unwanted = matching(paths, declaration.stdlib_without)
    for path in sorted(set(paths) - unwanted):
        if "__pycache__" not in path:
            content = sysroot.path(f"{declaration.stdlib}/{path}")
            tree.add(f"{declaration.stdlib}/{path}", File(content=content))
    return tree


def code_tree(source: Path, declaration: Declaration, *, is_debug: bool) -> Tree:
    """Our own code, as sources.

    Args:
        source: The directory that holds our package.
    """
    tree = Tree()
    package = source / _OUR_PACKAGE
    paths = [package / "__init__.py"]
    for room in declaration.rooms:
        paths += (package / room).rglob("*.py")
    names = [path.relative_to(package).as_posix() for path in paths]
    without = [*declaration.code_without, *(() if is_debug else declaration.code_debug)]
    for name in sorted(names):
        if not any(PurePosixPath(name).is_relative_to(each) for each in without):
            path = f"{declaration.site}/{_OUR_PACKAGE}/{name}"
            tree.add(path, File(content=package / name))
    return tree


def library_tree(trees: Iterable[Tree], sysroot: Sysroot, declaration: Declaration) -> Tree:
    """Every shared library that a file in these trees needs, and what those need, and so on.

    Raises:
        NotFoundError: no package has it; the message names who needs it.
    """
    libraries = Tree()
    search = _Search(sysroot=sysroot, places=declaration.library_places)
    waiting: list[tuple[str, bytes]] = []
    for tree in trees:
        for path, entry in tree.entries.items():
            if isinstance(entry, File):
                waiting.append((path, entry.read()))
    while waiting:
        needing, content = waiting.pop()
        if not is_elf(content) or needing.endswith(".ko"):
            continue
        for path in search.needs(needing, content):
            if path not in libraries.entries:
                found = sysroot.path(path)
                is_loader = PurePosixPath(path).parent == PurePosixPath(_LOADER_PLACE)
                libraries.add(path, File(content=found, is_program=is_loader))
                waiting.append((path, found.read_bytes()))
    return libraries


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    sysroot: Sysroot
    places: Sequence[str]

    def needs(self, needing: str, content: bytes) -> Sequence[str]:
        """Paths on the image of what one ELF file names."""
        paths: list[str] = []
        loader = interpreter(content)
        if loader is not None:
            paths.append(f"{_LOADER_PLACE}/{PurePosixPath(loader).name}")
        for name in needed_libraries(content):
            if name.startswith("ld-linux"):
                paths.append(f"{_LOADER_PLACE}/{name}")
            else:
                paths.append(self._library(name, needing))
        return paths

    def _library(self, name: str, needing: str) -> str:
        for place in self.places:
            if self.sysroot.path(f"{place}/{name}").is_file():
                return f"{place}/{name}"
        raise NotFoundError(
            f"/{needing} needs {name}, which no package of images/node.toml has",
            remedy="Add the package that has it, then run `make lock-packages`.",
        )


def declared_tree(declaration: Declaration) -> Tree:
    """Files, links and directories that are written out in the declaration."""
    tree = Tree()
    for path, text in declaration.files.items():
        tree.add(path, File(content=text.encode()))
    for path, target in declaration.links.items():
        tree.add(path, Link(target=target))
    for path in declaration.directories:
        tree.add(path, Folder())
    return tree


def certificate_tree(sysroot: Sysroot) -> Tree:
    """The certificate authorities that Mozilla trusts, as one file."""
    place = sysroot.path(_CERTIFICATES)
    whole = b"".join(path.read_bytes() for path in sorted(place.glob("*.crt")))
    return Tree({_CERTIFICATE_BUNDLE: File(content=whole)})


def content_digest(trees: Iterable[Tree]) -> str:
    """Digest of all that trees hold, for cache keys."""
    digest = hashlib.sha256()
    for tree in trees:
        for path, entry in sorted(tree.entries.items()):
            digest.update(f"{path}\0{_marks(entry)}\0".encode())
            if isinstance(entry, File):
                digest.update(hashlib.sha256(entry.read()).digest())
    return digest.hexdigest()


def _marks(entry: File | Link | Folder) -> str:
    match entry:
        case File(is_program=is_program):
            return f"file {is_program}"
        case Link(target=target):
            return f"link {target}"
        case Folder():
            return "folder"


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise NotFoundError(
            f"no package has {path.name}", remedy="Correct the name in images/node.toml."
        )
    return path


def merged(trees: Iterable[Tree]) -> Tree:
    """One tree of several.

    Raises:
        AlreadyExistsError: two have different content for one path.
    """
    whole: dict[str, File | Link | Folder] = {}
    result = Tree(whole)
    for tree in trees:
        for path, entry in tree.entries.items():
            result.add(path, entry)
    return result
