# SPDX-License-Identifier: Apache-2.0
"""The partition table of a disk: GUID Partition Table (UEFI specification, chapter 5).

    LBA 0  protective MBR │ 1  header │ 2…33  128 entries │ … │ backup entries │ last LBA  header

    encode(table) -> EncodedTable      what to write, and where; the backup is to be written first
    decode(read, disk_bytes=…)         the primary table, or the backup where that is damaged

A disk of ours has four partitions: the firmware's (ESP), two slots for system images, and the data.
"""

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from metropolis.base.errors import DataLossError, InvalidArgumentError

ESP_TYPE: Final = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
SYSTEM_A_TYPE: Final = UUID("ee96054b-f6d0-4267-aaaa-724b2afea74c")
SYSTEM_B_TYPE: Final = UUID("ee96054b-f6d0-4267-bbbb-724b2afea74c")
DATA_TYPE: Final = UUID("9eeec464-6885-414a-b278-4305c51f7966")
ESP_NAME: Final = "ESP"
SYSTEM_A_NAME: Final = "METROPOLIS-SYSTEM-A"
SYSTEM_B_NAME: Final = "METROPOLIS-SYSTEM-B"
DATA_NAME: Final = "METROPOLIS-NODE-DATA"

ALIGNMENT_BYTES: Final = 1 << 20  # where partitions begin
ENTRY_COUNT: Final = 128
ENTRY_BYTES: Final = 128
NAME_UNITS_MAX: Final = 36  # UTF-16 code units
SECTOR_BYTES_KNOWN: Final = (512, 4096)

_HEADER: Final = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY: Final = struct.Struct("<16s16sQQQ72s")
_SIGNATURE: Final = b"EFI PART"
_REVISION: Final = 0x10000
_UNUSED: Final = UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskPartition:
    """A partition. Its first and last sector (LBA) both belong to it."""

    type_guid: UUID
    guid: UUID
    name: str
    first_lba: int
    last_lba: int
    attributes: int = 0

    @property
    def sectors(self) -> int:
        """How many sectors it has."""
        return self.last_lba - self.first_lba + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionTable:
    """The partitions of a disk in their order; the first has number 1.

    Unused entries between used ones are not kept: no disk of ours has any.

    Attributes:
        disk_sectors: Size of the disk.
        sector_bytes: 512 or 4096.
    """

    disk_guid: UUID
    disk_sectors: int
    partitions: Sequence[DiskPartition]
    sector_bytes: int = 512

    @property
    def first_usable_lba(self) -> int:
        """The first sector that a partition may have."""
        return 2 + entries_sectors(self.sector_bytes)

    @property
    def last_usable_lba(self) -> int:
        """The last sector that a partition may have."""
        return self.disk_sectors - 2 - entries_sectors(self.sector_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedTable:
    """What is to be written. Write the backup first: it replaces nothing that was valid.

    Attributes:
        primary: Protective MBR, header and entries, for LBA 0.
        backup: Entries and header, for `backup_lba`.
    """

    primary: bytes
    backup: bytes
    backup_lba: int


def entries_sectors(sector_bytes: int) -> int:
    """Return how many sectors 128 entries take."""
    return ENTRY_COUNT * ENTRY_BYTES // sector_bytes


def encode(table: PartitionTable) -> EncodedTable:
    """Return the bytes of a table.

    Raises:
        InvalidArgumentError: partitions overlap, leave the disk, share a GUID, are too many, or
            have a name longer than 36 UTF-16 code units.
    """
    _check(table)
    entries = b"".join(_entry(partition) for partition in table.partitions)
    entries = entries.ljust(ENTRY_COUNT * ENTRY_BYTES, b"\0")
    last = table.disk_sectors - 1
    backup_lba = last - entries_sectors(table.sector_bytes)
    header = _header(table, entries, own_lba=1, other_lba=last, entries_lba=2)
    backup = _header(table, entries, own_lba=last, other_lba=1, entries_lba=backup_lba)
    return EncodedTable(
        primary=_protective_mbr(table) + header + entries,
        backup=entries + backup,
        backup_lba=backup_lba,
    )


def decode(read: Callable[[int, int], bytes], *, disk_bytes: int) -> PartitionTable:
    """Read the table of a disk; its sectors may have 512 or 4096 bytes.

    Args:
        read: Returns so many bytes (second) from an offset in bytes (first).

    Raises:
        DataLossError: neither the table at the beginning nor the one at the end is valid.
    """
    faults: list[str] = []
    for sector_bytes in SECTOR_BYTES_KNOWN:
        last = disk_bytes // sector_bytes - 1
        for name, lba in (("primary", 1), ("backup", last)):
            if lba < 1:
                continue
            try:
                return _decode_at(read, lba, disk_bytes, sector_bytes)
            except DataLossError as refused:
                faults.append(f"{name}: {refused}")
    raise DataLossError(
        "a disk has no valid partition table (" + "; ".join(dict.fromkeys(faults)) + ")",
        remedy="Install the node again, or restore the table from a copy.",
    )


def _check(table: PartitionTable) -> None:
    if table.sector_bytes not in SECTOR_BYTES_KNOWN:
        raise InvalidArgumentError(f"sectors of {table.sector_bytes} bytes are not known")
    if table.first_usable_lba > table.last_usable_lba:
        raise InvalidArgumentError("a disk is too small for a partition table")
    if len(table.partitions) > ENTRY_COUNT:
        raise InvalidArgumentError(f"a disk has at most {ENTRY_COUNT} partitions")
    guids = [partition.guid for partition in table.partitions]
    if len(set(guids)) < len(guids):
        raise InvalidArgumentError("two partitions have one GUID")
    end = table.first_usable_lba - 1
    for partition in sorted(table.partitions, key=lambda each: each.first_lba):
        if not end < partition.first_lba <= partition.last_lba <= table.last_usable_lba:
            raise InvalidArgumentError(f"partition {partition.name!r} overlaps or leaves the disk")
        end = partition.last_lba
        if partition.type_guid == _UNUSED:
            raise InvalidArgumentError(f"partition {partition.name!r} has no type")
        if len(partition.name.encode("utf-16-le", "surrogatepass")) > 2 * NAME_UNITS_MAX:
            raise InvalidArgumentError(f"the name of partition {partition.name!r} is too long")


def _entry(partition: DiskPartition) -> bytes:
    return _ENTRY.pack(
        partition.type_guid.bytes_le,
        partition.guid.bytes_le,
        partition.first_lba,
        partition.last_lba,
        partition.attributes,
        partition.name.encode("utf-16-le", "surrogatepass"),
    )


def _header(
    table: PartitionTable, entries: bytes, *, own_lba: int, other_lba: int, entries_lba: int
) -> bytes:
    def packed(checksum: int) -> bytes:
        return _HEADER.pack(
            *(_SIGNATURE, _REVISION, _HEADER.size, checksum, 0, own_lba, other_lba),
            *(table.first_usable_lba, table.last_usable_lba, table.disk_guid.bytes_le),
            *(entries_lba, ENTRY_COUNT, ENTRY_BYTES, zlib.crc32(entries)),
        )

    return packed(zlib.crc32(packed(0))).ljust(table.sector_bytes, b"\0")


def _protective_mbr(table: PartitionTable) -> bytes:
    sectors = min(table.disk_sectors - 1, 0xFFFFFFFF)
    record = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, sectors)
    return (bytes(446) + record).ljust(510, b"\0") + b"\x55\xaa" + bytes(table.sector_bytes - 512)


def _decode_at(
    read: Callable[[int, int], bytes], lba: int, disk_bytes: int, sector_bytes: int
) -> PartitionTable:
    sector = read(lba * sector_bytes, sector_bytes)
    if len(sector) < _HEADER.size or sector[:8] != _SIGNATURE:
        raise DataLossError("there is none")
    _, revision, size, checksum, _, own, _, first, last, guid, at, count, entry_bytes, crc = (
        _HEADER.unpack_from(sector)
    )
    if not _HEADER.size <= size <= sector_bytes or revision != _REVISION:
        raise DataLossError("its header has another form")
    if zlib.crc32(sector[:16] + bytes(4) + sector[20:size]) != checksum or own != lba:
        raise DataLossError("its header is damaged")
    if at >= disk_bytes // sector_bytes or entry_bytes != ENTRY_BYTES or count > ENTRY_COUNT:
        raise DataLossError("its entries have another form")
    entries = read(at * sector_bytes, count * ENTRY_BYTES)
    if len(entries) < count * ENTRY_BYTES or zlib.crc32(entries) != crc:
        raise DataLossError("its entries are damaged")
    partitions = [_partition(entries, index) for index in range(count)]
    table = PartitionTable(
        disk_guid=UUID(bytes_le=guid),
        disk_sectors=disk_bytes // sector_bytes,
        partitions=tuple(partition for partition in partitions if partition is not None),
        sector_bytes=sector_bytes,
    )
    for partition in table.partitions:
        if not first <= partition.first_lba <= partition.last_lba <= last:
            raise DataLossError(f"partition {partition.name!r} leaves the disk")
    return table


def _partition(entries: bytes, index: int) -> DiskPartition | None:
    kind, guid, first, last, attributes, name = _ENTRY.unpack_from(entries, index * ENTRY_BYTES)
    if not any(kind):
        return None
    return DiskPartition(
        type_guid=UUID(bytes_le=kind),
        guid=UUID(bytes_le=guid),
        name=name.decode("utf-16-le", "surrogatepass").partition("\0")[0],
        first_lba=first,
        last_lba=last,
        attributes=attributes,
    )
