# SPDX-License-Identifier: Apache-2.0
"""The file system that firmware reads: FAT32, written in one piece and the same every time.

    build(files, …) -> (offset, chunk), …     what no chunk covers is free, and may hold anything
    decode(read) -> {path: content}           what is in one, for tools and tests

Every file and directory is one run of clusters, in the order of their paths; times are FAT's first
moment, 1 January 1980. Names are long names with a numbered short one behind, unless they are short
ones already. Layout: Microsoft, "FAT: General Overview of On-Disk Format" 1.03.

    boot sector, FSInfo │ (sector 6) their copies │ … 32 │ FAT │ FAT │ cluster 2 = root │ …
"""

import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from metropolis.base.errors import DataLossError, InvalidArgumentError, ResourceExhaustedError

SECTOR_BYTES: Final = 512
CLUSTERS_MIN: Final = 65525 + 16  # below the first number it is no FAT32; drivers differ by a few
CLUSTERS_MAX: Final = 0x0FFFFFF5
CLUSTER_SECTORS_MAX: Final = 8
SIZE_BYTES_MIN: Final = 34 << 20
SIZE_BYTES_MAX: Final = 32 << 30  # its two tables have 64 MiB then
LABEL_CHARACTERS_MAX: Final = 11
NAME_UNITS_MAX: Final = 255
DEPTH_MAX: Final = 32

DIRECTORY: Final = 0x10
VOLUME_LABEL: Final = 0x08
LONG_NAME: Final = 0x0F
ENTRY: Final = struct.Struct("<11sBBBHHHHHHHI")
LONG_ENTRY: Final = struct.Struct("<B10sBBB12sH4s")
END_OF_CHAIN: Final = 0x0FFFFFFF
LAST_LONG_ENTRY: Final = 0x40
UNITS_PER_ENTRY: Final = 13

_RESERVED_SECTORS: Final = 32
_BACKUP_SECTOR: Final = 6
_ROOT_CLUSTER: Final = 2
_MEDIA: Final = 0xF8
_FIRST_DAY: Final = 1 << 5 | 1  # of January 1980
_PLAIN_SHORT: Final = re.compile(r"[A-Z0-9!#$%&'()@^_`{}~-]{1,8}(\.[A-Z0-9!#$%&'()@^_`{}~-]{1,3})?")
_FORBIDDEN: Final = re.compile(r'[\x00-\x1f"*/:<>?\\|\x7f]')


Read = Callable[[int, int], bytes]  # offset, size in bytes -> so many bytes


@dataclass(slots=True)
class _Node:
    """A file or directory on its way to a place."""

    content: bytes | None = None  # None: a directory
    children: dict[str, "_Node"] = field(default_factory=dict[str, "_Node"])
    clusters: int = 0
    first: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Geometry:
    cluster_sectors: int
    fat_sectors: int
    clusters: int
    sectors: int

    @property
    def cluster_bytes(self) -> int:
        return self.cluster_sectors * SECTOR_BYTES

    def offset(self, cluster: int) -> int:
        data = (_RESERVED_SECTORS + 2 * self.fat_sectors) * SECTOR_BYTES
        return data + (cluster - _ROOT_CLUSTER) * self.cluster_bytes


def build(
    files: Mapping[str, bytes], *, size_bytes: int, label: str, volume_id: int
) -> Iterator[tuple[int, bytes]]:
    """Return a file system as chunks at ascending offsets; what else is there plays no role.

    Clusters have 4 KiB, or less where a volume of that size would else be no FAT32.

    Args:
        files: By path with "/" between its parts; directories are made as needed.
        size_bytes: Of the whole volume, at least 34 MiB.
        label: At most 11 characters, upper case.
        volume_id: 32 bits.

    Raises:
        InvalidArgumentError: size, label or a path is impossible.
        ResourceExhaustedError: the files do not fit.
    """
    geometry = _geometry(size_bytes)
    if not _PLAIN_SHORT.fullmatch(label.replace(" ", "")[:8]) or label != label.upper():
        raise InvalidArgumentError(f"{label!r} cannot be the label of a FAT volume")
    if len(label) > LABEL_CHARACTERS_MAX or not 0 <= volume_id < 1 << 32:
        raise InvalidArgumentError("the label or number of a FAT volume is too long")
    root = _tree(files)
    nodes = list(_walk(root))
    used = _place(root, nodes, geometry)
    yield from _boot_sectors(geometry, label, volume_id, used)
    yield from _tables(geometry, nodes)
    for node, parent in nodes:
        content = node.content
        if content is None:
            content = _directory(node, parent, label if node is root else None)
            content = content.ljust(node.clusters * geometry.cluster_bytes, b"\0")
        if content:
            yield geometry.offset(node.first), content


def _geometry(size_bytes: int) -> _Geometry:
    sectors = size_bytes // SECTOR_BYTES
    if not SIZE_BYTES_MIN <= size_bytes <= SIZE_BYTES_MAX or size_bytes % SECTOR_BYTES:
        raise InvalidArgumentError(
            f"a FAT32 volume cannot have {size_bytes} bytes",
            remedy="Use whole sectors of 512 bytes, at least 34 MiB.",
        )
    cluster_sectors = CLUSTER_SECTORS_MAX
    while True:
        # Each cluster takes its sectors and an entry of 4 bytes in both tables.
        available = sectors - _RESERVED_SECTORS
        fat_sectors = -(-(available + 2 * cluster_sectors) // (cluster_sectors * 128 + 2))
        clusters = (available - 2 * fat_sectors) // cluster_sectors
        if clusters >= CLUSTERS_MIN or cluster_sectors == 1:
            break
        cluster_sectors //= 2
    assert CLUSTERS_MIN <= clusters <= min(CLUSTERS_MAX, fat_sectors * 128 - 2)
    return _Geometry(
        cluster_sectors=cluster_sectors,
        fat_sectors=fat_sectors,
        clusters=clusters,
        sectors=sectors,
    )


def _tree(files: Mapping[str, bytes]) -> _Node:
    root = _Node()
    for path in sorted(files):
        *parents, name = path.split("/")
        node = root
        for depth, part in enumerate((*parents, name)):
            _check_name(part, path)
            if node.content is not None:
                raise InvalidArgumentError(f"{path!r} is inside of a file")
            same = [known for known in node.children if known.lower() == part.lower()]
            if same and (depth == len(parents) or same != [part]):
                raise InvalidArgumentError(f"{path!r} differs from another path only in case")
            node = node.children.setdefault(part, _Node())
        node.content = files[path]
    return root


def _check_name(name: str, path: str) -> None:
    units = len(name.encode("utf-16-le", "surrogatepass")) // 2
    if not 0 < units <= NAME_UNITS_MAX or _FORBIDDEN.search(name) or name.strip(" .") != name:
        raise InvalidArgumentError(f"{path!r} cannot be a path on a FAT volume")


def _walk(node: _Node, parent: _Node | None = None) -> Iterator[tuple[_Node, _Node | None]]:
    yield node, parent
    for name in sorted(node.children):
        yield from _walk(node.children[name], node)


def _place(root: _Node, nodes: Sequence[tuple[_Node, _Node | None]], geometry: _Geometry) -> int:
    cluster = _ROOT_CLUSTER
    for node, _ in nodes:
        size = len(node.content) if node.content is not None else _directory_bytes(node, root)
        if size >> 32:
            raise InvalidArgumentError("a file of a FAT volume has less than 4 GiB")
        node.clusters = -(-size // geometry.cluster_bytes)
        node.first = cluster if node.clusters else 0
        cluster += node.clusters
    used = cluster - _ROOT_CLUSTER
    if used > geometry.clusters:
        raise ResourceExhaustedError(
            f"the files need {used * geometry.cluster_bytes} bytes of a FAT volume, which has "
            f"{geometry.clusters * geometry.cluster_bytes}",
            remedy="Make the volume larger or put less on it.",
        )
    return used


def _directory_bytes(node: _Node, root: _Node) -> int:
    special = 1 if node is root else 2  # the label, or "." and ".."
    entries = sum(1 + _long_entries(name) for name in node.children)
    return ENTRY.size * (special + entries)


def _long_entries(name: str) -> int:
    if _PLAIN_SHORT.fullmatch(name):
        return 0
    units = len(name.encode("utf-16-le", "surrogatepass")) // 2
    return -(-units // UNITS_PER_ENTRY)


def _boot_sectors(
    geometry: _Geometry, label: str, volume_id: int, used: int
) -> Iterator[tuple[int, bytes]]:
    boot = struct.pack(
        "<3s8sHBHBHHBHHHIIIHHIHH12sBBBI11s8s",
        *(b"\xeb\x58\x90", b"METROPOL", SECTOR_BYTES, geometry.cluster_sectors),
        *(_RESERVED_SECTORS, 2, 0, 0, _MEDIA, 0, 32, 64, 0, geometry.sectors),
        *(geometry.fat_sectors, 0, 0, _ROOT_CLUSTER, 1, _BACKUP_SECTOR, b""),
        *(0x80, 0, 0x29, volume_id, label.ljust(11).encode("ascii"), b"FAT32   "),
    )
    boot = boot.ljust(510, b"\0") + b"\x55\xaa"
    information = struct.pack(
        "<4s480s4sII12sI",
        *(b"RRaA", b"", b"rrAa", geometry.clusters - used, _ROOT_CLUSTER + used),
        *(b"", 0xAA550000),
    )
    third = bytes(510) + b"\x55\xaa"
    copy = (boot + information + third).ljust(_BACKUP_SECTOR * SECTOR_BYTES, b"\0")
    yield 0, (copy + copy).ljust(_RESERVED_SECTORS * SECTOR_BYTES, b"\0")


def _tables(
    geometry: _Geometry, nodes: Sequence[tuple[_Node, _Node | None]]
) -> Iterator[tuple[int, bytes]]:
    links = [0x0FFFFF00 | _MEDIA, END_OF_CHAIN]
    for node, _ in nodes:
        links += range(node.first + 1, node.first + node.clusters)
        if node.clusters:
            links.append(END_OF_CHAIN)
    table = struct.pack(f"<{len(links)}I", *links).ljust(geometry.fat_sectors * SECTOR_BYTES, b"\0")
    for start in (_RESERVED_SECTORS, _RESERVED_SECTORS + geometry.fat_sectors):
        yield start * SECTOR_BYTES, table


def _directory(node: _Node, parent: _Node | None, label: str | None) -> bytes:
    if label is None:
        assert parent is not None
        above = 0 if parent.first == _ROOT_CLUSTER else parent.first
        content = _entry(b".".ljust(11), DIRECTORY, node.first, 0)
        content += _entry(b"..".ljust(11), DIRECTORY, above, 0)
    else:
        content = _entry(label.ljust(11).encode("ascii"), VOLUME_LABEL, 0, 0)
    short_names = {name for name in node.children if _PLAIN_SHORT.fullmatch(name)}
    for name in sorted(node.children):
        child = node.children[name]
        short = name if name in short_names else _numbered(name, short_names)
        short_names.add(short)
        base, _, extension = short.partition(".")
        padded = (base.ljust(8) + extension.ljust(3)).encode("ascii")
        if short != name:
            content += _long_name(name, padded)
        kind = DIRECTORY if child.content is None else 0x20
        content += _entry(padded, kind, child.first, len(child.content or b""))
    return content


def _numbered(name: str, taken: set[str]) -> str:
    def plain(part: str) -> str:
        return re.sub(r"[^A-Z0-9_-]", "", part.upper())

    base, dot, extension = name.rpartition(".")
    if not dot:
        base, extension = name, ""
    number = 1
    while True:
        tail = f"~{number}"
        short = plain(base)[: 8 - len(tail)] + tail
        if plain(extension):
            short += "." + plain(extension)[:3]
        if short not in taken:
            return short
        number += 1


def _long_name(name: str, short: bytes) -> bytes:
    checksum = short_name_checksum(short)
    units = name.encode("utf-16-le", "surrogatepass")
    count = _long_entries(name)
    room = count * 2 * UNITS_PER_ENTRY
    if len(units) < room:
        units = (units + b"\0\0").ljust(room, b"\xff")
    content = b""
    for number in range(count, 0, -1):
        part = units[(number - 1) * 26 : number * 26]
        order = number | (LAST_LONG_ENTRY if number == count else 0)
        content += LONG_ENTRY.pack(
            order, part[:10], LONG_NAME, 0, checksum, part[10:22], 0, part[22:]
        )
    return content


def short_name_checksum(short: bytes) -> int:
    """Return what the long name's entries say of the short name (11 bytes) they belong to."""
    checksum = 0
    for byte in short:
        checksum = ((checksum & 1) << 7) + (checksum >> 1) + byte & 0xFF
    return checksum


def _entry(short: bytes, kind: int, first: int, size: int) -> bytes:
    day = _FIRST_DAY
    return ENTRY.pack(short, kind, 0, 0, 0, day, day, first >> 16, 0, day, first & 0xFFFF, size)


def decode(read: Read) -> Mapping[str, bytes]:
    """Return every file of a FAT32 volume by path.

    Raises:
        DataLossError: it is no FAT32 volume, damaged, or holds more than 2 GiB.
    """
    return dict(_Volume(read).files(_ROOT_CLUSTER, ""))


class _Volume:
    """Reads a volume that somebody else may have written, believing nothing."""

    def __init__(self, read: Read) -> None:
        boot = read(0, SECTOR_BYTES)
        if len(boot) < SECTOR_BYTES or boot[510:] != b"\x55\xaa" or boot[82:90] != b"FAT32   ":
            raise _damaged("it has no boot sector of one")
        sector_bytes, cluster_sectors, reserved, tables = struct.unpack_from("<HBHB", boot, 11)
        sectors, fat_sectors = struct.unpack_from("<II", boot, 32)
        if sector_bytes != SECTOR_BYTES or not cluster_sectors or not reserved:
            raise _damaged("its sizes are unknown")
        if fat_sectors > SIZE_BYTES_MAX // (SECTOR_BYTES * 128) or tables > 2:  # noqa: PLR2004  # numbers of the FAT specification
            raise _damaged("its tables are impossible")
        self._read = read
        self._cluster_bytes = cluster_sectors * SECTOR_BYTES
        self._data = (reserved + tables * fat_sectors) * SECTOR_BYTES
        self._end = sectors * SECTOR_BYTES
        table = read(reserved * SECTOR_BYTES, fat_sectors * SECTOR_BYTES)
        self._links = memoryview(table[: len(table) & ~3]).cast("I")  # every machine of ours is LE
        self._unread_bytes = 2 << 30
        self._directories: set[int] = set()

    def files(self, cluster: int, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Yield path and content of all files below a directory."""
        if cluster in self._directories or prefix.count("/") > DEPTH_MAX:
            raise _damaged("a directory holds itself, or they are too deep")
        self._directories.add(cluster)
        content = self._chain(cluster)
        long_name: list[bytes] = []
        for offset in range(0, len(content), ENTRY.size):
            entry = content[offset : offset + ENTRY.size]
            if entry[0] == 0:
                return
            kind = entry[11]
            if kind == LONG_NAME:
                _, first, _, _, _, second, _, third = LONG_ENTRY.unpack(entry)
                long_name.insert(0, first + second + third)
                continue
            pieces, long_name = long_name, []
            if entry[0] == 0xE5 or entry[0] == ord(".") or kind & VOLUME_LABEL:  # noqa: PLR2004  # numbers of the FAT specification
                continue
            path = prefix + _name(entry, b"".join(pieces))
            high, low, size = struct.unpack("<20xH4xHI", entry)
            if kind & DIRECTORY:
                yield from self.files(high << 16 | low, path + "/")
            else:
                yield path, self._chain(high << 16 | low, size)

    def _chain(self, cluster: int, size: int | None = None) -> bytes:
        content = bytearray()
        while _ROOT_CLUSTER <= cluster < 0x0FFFFFF8 and (size is None or len(content) < size):  # noqa: PLR2004  # numbers of the FAT specification
            offset = self._data + (cluster - _ROOT_CLUSTER) * self._cluster_bytes
            piece = self._read(offset, self._cluster_bytes)
            self._unread_bytes -= self._cluster_bytes
            if cluster >= len(self._links) or len(piece) < self._cluster_bytes:
                raise _damaged("a chain of clusters leaves it")
            if self._unread_bytes < 0 or offset >= self._end:
                raise _damaged("a chain of clusters has no end")
            content += piece
            cluster = self._links[cluster] & 0x0FFFFFFF
        if size is not None and len(content) < size:
            raise _damaged("a file is cut")
        return bytes(content if size is None else content[:size])


def _name(entry: bytes, long_name: bytes) -> str:
    if long_name:
        text = long_name.decode("utf-16-le", "surrogatepass").partition("\0")[0]
        return text.rstrip("\uffff")
    base = entry[:8].decode("latin-1").rstrip()
    extension = entry[8:11].decode("latin-1").rstrip()
    lower_base, lower_extension = entry[12] & 0x08, entry[12] & 0x10  # as Linux writes them
    base = base.lower() if lower_base else base
    extension = extension.lower() if lower_extension else extension
    return f"{base}.{extension}" if extension else base


def _damaged(reason: str) -> DataLossError:
    return DataLossError(
        f"a FAT32 volume cannot be read: {reason}", remedy="Write the medium or the node anew."
    )
