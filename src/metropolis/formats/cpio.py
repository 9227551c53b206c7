# SPDX-License-Identifier: Apache-2.0
"""The archive that the kernel unpacks as its first root: cpio, format "newc".

    build(entries) -> bytes       deterministic: no times, numbers counted, owner 0:0

Layout: Linux, driver-api/early-userspace/buffer-format. Parents must precede what they hold, as the
kernel makes no directories of its own accord; `build` refuses another order.
"""

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from metropolis.base.errors import DataLossError

_MAGIC: Final = b"070701"
_TRAILER: Final = "TRAILER!!!"
_HEADER_BYTES: Final = 110


@dataclass(frozen=True, slots=True, kw_only=True)
class CpioEntry:
    """A file, directory, device or symbolic link.

    Attributes:
        path: Relative, without a leading slash or dot.
        mode: With the type bits of stat(2), e.g. `stat.S_IFREG | 0o755`.
        data: Content of a file, target of a link.
        device: Major and minor number of a device.
    """

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def build(entries: Sequence[CpioEntry]) -> bytes:
    """Return the archive, padded to whole 512-byte blocks.

    Raises:
        ValueError: a path is absolute, comes twice, or before its parent directory.
    """
    directories = {""}
    seen: set[str] = set()
    archive = bytearray()
    for number, entry in enumerate(entries, start=1):
        parent = entry.path.rpartition("/")[0]
        if entry.path in seen or parent not in directories or not entry.path:
            raise ValueError(f"{entry.path!r} comes twice or before its directory")
        seen.add(entry.path)
        if stat.S_ISDIR(entry.mode):
            directories.add(entry.path)
        _append(archive, entry, number)
    _append(archive, CpioEntry(path=_TRAILER, mode=0), 0)
    archive += bytes(-len(archive) % 512)
    return bytes(archive)


def read(archive: bytes) -> Sequence[CpioEntry]:
    """Return the entries of one archive.

    Raises:
        DataLossError: it is cut or damaged.
    """
    entries: list[CpioEntry] = []
    offset = 0
    while True:
        header = archive[offset : offset + _HEADER_BYTES]
        if len(header) < _HEADER_BYTES or header[:6] != _MAGIC:
            raise DataLossError(f"a cpio archive is damaged at byte {offset}")
        try:
            fields = [int(header[at : at + 8], 16) for at in range(6, _HEADER_BYTES, 8)]
        except ValueError as cause:
            raise DataLossError(f"a cpio archive is damaged at byte {offset}") from cause
        name_end = offset + _HEADER_BYTES + fields[11]
        name = archive[offset + _HEADER_BYTES : name_end - 1]
        start = name_end + -name_end % 4
        end = start + fields[6]
        if end > len(archive) or not name:
            raise DataLossError(f"a cpio archive is cut at byte {offset}")
        path = name.decode("utf-8", "backslashreplace")
        if path == _TRAILER:
            return entries
        data = archive[start:end]
        entries.append(
            CpioEntry(path=path, mode=fields[1], data=data, device=(fields[9], fields[10]))
        )
        offset = end + -end % 4


def _append(archive: bytearray, entry: CpioEntry, number: int) -> None:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    major, minor = entry.device
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, major, minor, len(name), 0)
    archive += _MAGIC + b"".join(b"%08x" % field for field in fields) + name
    archive += bytes(-len(archive) % 4)
    archive += entry.data
    archive += bytes(-len(archive) % 4)
