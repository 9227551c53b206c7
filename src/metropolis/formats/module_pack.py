# SPDX-License-Identifier: Apache-2.0
"""Many Python modules in one file: an index, then the code of each as `marshal` wrote it.

    8 bytes   length of the index, little-endian
    index     marshal, version 0: {name: (kind, path, offset, size)}; offsets count from the codes
    codes     one after the other

Version 0 of `marshal` has neither references nor interned strings: equal indexes are equal bytes.
Written by the image builder, read before anything else is imported: this module imports nothing
that the interpreter does not have inside.
"""

import marshal
from collections.abc import Mapping, Sequence

SOURCELESS = 0  # a module of bytecode
PACKAGE = 1  # the same, with modules below it
EXTENSION = 2  # a shared library at `path`; no code here

Entry = tuple[int, str, int, int]
_LENGTH_BYTES = 8


def encode(modules: Sequence[tuple[str, int, str, bytes]]) -> bytes:
    """Return the file.

    Args:
        modules: Of each its name, its kind, its absolute path where it runs, and its code.
    """
    index: dict[str, Entry] = {}
    offset = 0
    for name, kind, path, code in modules:
        index[name] = (kind, path, offset, len(code))
        offset += len(code)
    head = marshal.dumps(index, 0)
    codes = b"".join(code for _, _, _, code in modules)
    return len(head).to_bytes(_LENGTH_BYTES, "little") + head + codes


def decode(data: bytes) -> tuple[Mapping[str, Entry], memoryview]:
    """Return the index, and the codes; the file comes from a verified place and is believed."""
    view = memoryview(data)
    size = int.from_bytes(view[:_LENGTH_BYTES], "little")
    codes = _LENGTH_BYTES + size
    index: Mapping[str, Entry] = marshal.loads(view[_LENGTH_BYTES:codes])  # noqa: S302  # it is code that comes
    return index, view[codes:]
