# SPDX-License-Identifier: Apache-2.0
"""Python sources to bytecode by the image's own interpreter, each source once.

The cache is per file, by source, name in the image and interpreter, so that a rebuild compiles
what was changed.
"""

import fnmatch
import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from metropolis.image.bytecode import normalise, pyc_header
from metropolis.image.steps import Say, digest_of
from metropolis.image.sysroot import Sysroot
from metropolis.image.tree import File, Tree

PYTHON: Final = "usr/bin/python3.13"
_WORKER: Final = Path(__file__).with_name("compile_worker.py")
_MAGIC: Final = "import importlib.util as u; print(u.MAGIC_NUMBER.hex())"
_TIMEOUT_S: Final = 600.0
_SOURCE: Final = ".py"
_COMPILED: Final = ".pyc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """Compiles with the Python of one sysroot.

    Attributes:
        identity: Digest of that Python, part of every cache key.
    """

    sysroot: Sysroot
    cache: Path
    identity: str
    say: Say

    def compiled(self, tree: Tree) -> Tree:
        """The tree with every `.py` replaced by a `.pyc` in its place; the rest is the same."""
        sources = {
            path: entry.read()
            for path, entry in tree.entries.items()
            if isinstance(entry, File) and PurePosixPath(path).suffix == _SOURCE
        }
        codes = self._codes(sources)
        whole = Tree()
        for path, entry in tree.entries.items():
            if path in codes:
                whole.add(path.removesuffix(_SOURCE) + _COMPILED, File(content=codes[path]))
            else:
                whole.add(path, entry)
        return whole

    def _codes(self, sources: Mapping[str, bytes]) -> Mapping[str, Path]:
        places = {path: self._place(path, source) for path, source in sources.items()}
        missing = [path for path, place in places.items() if not place.exists()]
        if missing:
            self.say(f"compiling {len(missing)} Python files")
            self._compile({path: sources[path] for path in missing}, places)
        return places

    def _place(self, path: str, source: bytes) -> Path:
        name = digest_of(self.identity, path, source)
        return self.cache / name[:2] / name

    def _compile(self, sources: Mapping[str, bytes], places: Mapping[str, Path]) -> None:
        self.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.cache, prefix=".new-") as directory:
            scratch = Path(directory)
            jobs: list[tuple[str, str, str]] = []
            for number, (path, source) in enumerate(sources.items()):
                (scratch / f"{number}.py").write_bytes(source)
                jobs.append((str(scratch / f"{number}.py"), f"/{path}", f"{scratch}/{number}"))
            (scratch / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
            self.run(str(_WORKER), str(scratch / "jobs.json"))
            magic = self.magic()
            for number, path in enumerate(sources):
                content = pyc_header(magic) + normalise((scratch / str(number)).read_bytes())
                _put(places[path], content, scratch / f"{number}.pyc")

    def magic(self) -> bytes:
        """The four bytes that this Python's bytecode files begin with."""
        return bytes.fromhex(self.run("-c", _MAGIC).decode().strip())

    def run(self, *arguments: str) -> bytes:
        """Run the image's Python on the build machine, isolated; return what it printed."""
        return self.sysroot.run(
            PYTHON,
            *("-I", "-S", "-B"),
            *arguments,
            timeout_s=_TIMEOUT_S,
            environment={"PYTHONHASHSEED": "0"},
        )


def _put(place: Path, content: bytes, scratch: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch.write_bytes(content)
    scratch.rename(place)


def matching(names: Iterable[str], patterns: Iterable[str]) -> frozenset[str]:
    """Those paths that a pattern matches, as a whole or by a directory they are in.

    Patterns are fnmatch's: `*` matches slashes, too.
    """
    wanted = re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns) or r"(?!)")
    found: set[str] = set()
    for name in names:
        parts = name.split("/")
        if any(wanted.match("/".join(parts[:end])) for end in range(1, len(parts) + 1)):
            found.add(name)
    return frozenset(found)
