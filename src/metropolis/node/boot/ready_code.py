# SPDX-License-Identifier: Apache-2.0
"""Functions of data classes that the image builder has compiled already.

`dataclasses` writes the source of `__init__`, `__eq__` and so on for every class and compiles it at
import: a quarter of the time that a node needs to import itself. The image builder imports the same
modules, notes each source, and adds modules of functions (`metropolis.image.ready_code`). Here they
are put in place of the compilation. What is in no table is compiled as ever.
"""

import builtins
import dataclasses
import importlib
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, Final

TABLES: Final = "metropolis.node.boot.ready_{}"  # generated, in images only
FUNCTION: Final = "__create_fn__"  # what the sources of `dataclasses` define

try:  # the module behind `hashlib`, which would load the whole of OpenSSL for it
    _sha256: Callable[[bytes], Any] = importlib.import_module("_sha2").sha256
except ImportError:  # Python 3.11
    _sha256 = importlib.import_module("hashlib").sha256

_ready: Final[dict[str, FunctionType]] = {}


def use(name: str) -> bool:
    """Use the table of this name from now on; False if this is no image that has it."""
    try:
        table: Mapping[str, FunctionType] = importlib.import_module(TABLES.format(name)).TABLE
    except ImportError:
        return False
    _ready.update(table)
    setattr(dataclasses, "exec", _execute)  # noqa: B010  # shadows the built-in, in that module
    return True


def key_of(source: str) -> str:
    """Return what a source is found by: its SHA-256, in hexadecimal."""
    digest: str = _sha256(source.encode()).hexdigest()
    return digest


def _execute(
    source: str,
    globals_: dict[str, Any] | None = None,
    locals_: dict[str, Any] | None = None,
) -> None:
    function = _ready.get(key_of(source))
    if function is None or globals_ is None or locals_ is None:
        builtins.exec(source, globals_, locals_)  # noqa: S102  # as `dataclasses` would
    else:
        locals_[FUNCTION] = FunctionType(function.__code__, globals_, FUNCTION)
