# SPDX-License-Identifier: Apache-2.0
"""Modules that the image builder has put together in the file that a program imports from.

Python asks four or five things of the file system for every module, and answers cost: with an
emulated processor a third of the time in which a node imports itself. The builder knows what is
imported, so one file holds it (`metropolis.formats.module_pack`) and is read once. Modules are what
they would be without: same names, files and loaders. What is in no pack is found as ever.
"""

import marshal
import sys
from collections.abc import Sequence
from importlib.machinery import ExtensionFileLoader, ModuleSpec, SourcelessFileLoader
from importlib.util import LazyLoader
from types import CodeType, ModuleType

from metropolis.formats import module_pack

PACK = "/usr/lib/metropolis/ready_{}.modules"
# Protobuf's other implementation, in Python, imported for the case that the fast one is missing.
LAZY = frozenset({"google.protobuf.internal.python_message"})


class ReadyModules:
    """Finds modules of a pack, for `sys.meta_path`."""

    def __init__(self, data: bytes) -> None:
        self._index, self._codes = module_pack.decode(data)

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Say where a module is, as `importlib` asks it."""
        entry = self._index.get(name)
        if entry is None:
            return None
        kind, path, offset, size = entry
        loader: SourcelessFileLoader | ExtensionFileLoader | LazyLoader
        if kind == module_pack.EXTENSION:
            loader = ExtensionFileLoader(name, path)
        elif name in LAZY:
            loader = LazyLoader(SourcelessFileLoader(name, path))
        else:
            loader = _Loader(name, path, self._codes[offset : offset + size])
        is_package = kind == module_pack.PACKAGE
        spec = ModuleSpec(name, loader, origin=path, is_package=is_package)
        spec.has_location = True
        if is_package:
            assert spec.submodule_search_locations is not None
            spec.submodule_search_locations.append(path.rpartition("/")[0])
        return spec


class _Loader(SourcelessFileLoader):
    def __init__(self, name: str, path: str, code: memoryview) -> None:
        super().__init__(name, path)
        self._code: memoryview | None = code

    def get_code(self, fullname: str) -> CodeType | None:  # type: ignore[explicit-override]  # `override` is younger
        """Return the module's code; the pack is let go with it."""
        if self._code is None:
            return super().get_code(fullname)
        code: CodeType = marshal.loads(self._code)  # noqa: S302  # from the verified image
        self._code = None
        return code


def offer(program: str, *, place: str = PACK) -> ReadyModules | None:
    """Import from this program's pack from now on; None if this is no image that has it."""
    try:
        with open(place.format(program), "rb", buffering=0) as file:  # noqa: PTH123  # pathlib is in the pack
            data = file.readall()
    except FileNotFoundError:
        return None
    found = ReadyModules(data)
    sys.meta_path.insert(0, found)
    return found


def withdraw(found: ReadyModules | None) -> None:
    """Forget a pack: what is imported later is found as ever."""
    if found is not None:
        sys.meta_path.remove(found)
