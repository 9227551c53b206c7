# SPDX-License-Identifier: Apache-2.0
"""The little of ELF that an image builder reads: needed libraries, the loader, one section.

64-bit little-endian files only, which is what Debian's amd64 and arm64 have. Source: System V ABI.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_MAGIC: Final = b"\x7fELF\x02\x01"
_PT_LOAD: Final = 1
_PT_DYNAMIC: Final = 2
_PT_INTERP: Final = 3
_DT_NULL: Final = 0
_DT_NEEDED: Final = 1
_DT_STRTAB: Final = 5
_PROGRAM_HEADER: Final = struct.Struct("<IIQQQQQQ")
_SECTION_HEADER: Final = struct.Struct("<IIQQQQIIQQ")
_DYNAMIC: Final = struct.Struct("<qQ")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    kind: int
    offset: int
    address: int
    file_bytes: int


def is_elf(content: bytes) -> bool:
    """Tell whether this is a file that the functions below read."""
    return content.startswith(_MAGIC)


def needed_libraries(content: bytes) -> tuple[str, ...]:
    """Names of DT_NEEDED, in the file's order; empty for a static program or a kernel module."""
    segments = tuple(_segments(content))
    dynamic = next((each for each in segments if each.kind == _PT_DYNAMIC), None)
    if dynamic is None:
        return ()
    names: list[int] = []
    strings = 0
    table = content[dynamic.offset : dynamic.offset + dynamic.file_bytes]
    for tag, value in _DYNAMIC.iter_unpack(table):
        if tag == _DT_NULL:
            break
        if tag == _DT_NEEDED:
            names.append(value)
        if tag == _DT_STRTAB:
            strings = _file_offset(segments, value)
    return tuple(_text(content, strings + name) for name in names)


def interpreter(content: bytes) -> str | None:
    """Absolute path of the dynamic loader, None where there is none."""
    for segment in _segments(content):
        if segment.kind == _PT_INTERP:
            return _text(content, segment.offset)
    return None


def section(content: bytes, name: str) -> bytes:
    """Content of the first section of this name; empty if there is none."""
    (table,) = struct.unpack_from("<Q", content, 0x28)
    entry_bytes, count, names_index = struct.unpack_from("<HHH", content, 0x3A)
    headers = [
        _SECTION_HEADER.unpack_from(content, table + index * entry_bytes) for index in range(count)
    ]
    if not headers:
        return b""
    names_offset = headers[names_index][4]
    for header in headers:
        if _text(content, names_offset + header[0]) == name:
            return content[header[4] : header[4] + header[5]]
    return b""


def without_sections(content: bytes) -> bytes:
    """A program or library without what only linkers and debuggers read.

    What is loaded is described by program headers; section headers and everything behind the last
    segment (symbol table, debugging information) go. Not for kernel modules, which have no
    program headers.
    """
    end = max((each.offset + each.file_bytes for each in _segments(content)), default=0)
    if end == 0:
        return content
    shorter = bytearray(content[:end])
    struct.pack_into("<Q", shorter, 0x28, 0)  # e_shoff
    struct.pack_into("<HH", shorter, 0x3C, 0, 0)  # e_shnum, e_shstrndx
    return bytes(shorter)


def _segments(content: bytes) -> Iterator[_Segment]:
    assert is_elf(content), "not a 64-bit little-endian ELF file"
    (table,) = struct.unpack_from("<Q", content, 0x20)
    entry_bytes, count = struct.unpack_from("<HH", content, 0x36)
    for index in range(count):
        kind, _, offset, address, _, file_bytes, _, _ = _PROGRAM_HEADER.unpack_from(
            content, table + index * entry_bytes
        )
        yield _Segment(kind=kind, offset=offset, address=address, file_bytes=file_bytes)


def _file_offset(segments: tuple[_Segment, ...], address: int) -> int:
    for each in segments:
        if each.kind == _PT_LOAD and each.address <= address < each.address + each.file_bytes:
            return each.offset + address - each.address
    raise AssertionError("a dynamic section points outside of its file")


def _text(content: bytes, offset: int) -> str:
    return content[offset : content.index(b"\0", offset)].decode()
