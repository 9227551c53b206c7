# SPDX-License-Identifier: Apache-2.0
"""A partition table survives the loss of either copy, and refuses what cannot be."""

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import DataLossError, InvalidArgumentError
from metropolis.formats import gpt
from metropolis.formats.gpt import DiskPartition, PartitionTable

DISK = UUID("12345678-9abc-def0-1234-56789abcdef0")
ESP = DiskPartition(
    type_guid=gpt.ESP_TYPE, guid=UUID(int=1), name="ESP", first_lba=2048, last_lba=4095
)
DATA = DiskPartition(
    type_guid=gpt.DATA_TYPE,
    guid=UUID(int=2),
    name=gpt.DATA_NAME,
    first_lba=4096,
    last_lba=20000,
    attributes=1 << 60,
)
TABLE = PartitionTable(disk_guid=DISK, disk_sectors=32768, partitions=(ESP, DATA))


def _disk(table: PartitionTable) -> bytearray:
    encoded = gpt.encode(table)
    disk = bytearray(table.disk_sectors * table.sector_bytes)
    disk[: len(encoded.primary)] = encoded.primary
    offset = encoded.backup_lba * table.sector_bytes
    disk[offset : offset + len(encoded.backup)] = encoded.backup
    return disk


def _reader(disk: bytes | bytearray) -> Callable[[int, int], bytes]:
    return lambda offset, size: bytes(disk[offset : offset + size])


def _decoded(disk: bytes | bytearray) -> PartitionTable:
    return gpt.decode(_reader(disk), disk_bytes=len(disk))


@pytest.mark.parametrize("sector_bytes", [512, 4096])
def test_a_table_comes_back_from_sectors_of_either_size(sector_bytes: int) -> None:
    table = replace(TABLE, sector_bytes=sector_bytes)
    assert _decoded(_disk(table)) == table


def test_the_layout_is_the_specification_s() -> None:
    disk = _disk(TABLE)
    assert disk[446 + 4] == 0xEE  # protective MBR
    assert bytes(disk[510:512]) == b"\x55\xaa"
    assert bytes(disk[512:520]) == b"EFI PART"
    header = bytes(disk[512:604])
    assert (
        zlib.crc32(header[:16] + bytes(4) + header[20:]) == struct.unpack_from("<I", header, 16)[0]
    )
    assert struct.unpack_from("<QQQQ", header, 24) == (1, 32767, 34, 32768 - 34)
    assert header[56:72] == DISK.bytes_le
    assert bytes(disk[1024:1040]) == gpt.ESP_TYPE.bytes_le
    assert bytes(disk[1024 + 56 : 1024 + 62]) == "ESP".encode("utf-16-le")
    assert bytes(disk[-512:-504]) == b"EFI PART"


def test_the_backup_is_read_when_the_primary_is_damaged() -> None:
    for offset in (512, 520, 1030, 1024 + 128 * 100):
        disk = _disk(TABLE)
        disk[offset] ^= 1
        assert _decoded(disk) == TABLE


def test_a_disk_without_any_valid_table_is_refused() -> None:
    disk = _disk(TABLE)
    disk[600] ^= 1
    disk[512 + 16] ^= 1
    disk[-512 + 20] ^= 0
    disk[-512] ^= 1
    with pytest.raises(DataLossError, match="no valid partition table") as refused:
        _decoded(disk)
    assert refused.value.remedy


def test_impossible_tables_are_refused() -> None:
    for partitions, reason in (
        ((ESP, replace(DATA, first_lba=4095)), "overlaps"),
        ((replace(ESP, first_lba=33),), "leaves the disk"),
        ((replace(DATA, last_lba=32768 - 33),), "leaves the disk"),
        ((replace(DATA, last_lba=DATA.first_lba - 1),), "overlaps"),
        ((ESP, replace(DATA, guid=ESP.guid)), "one GUID"),
        ((replace(ESP, name="x" * 37),), "too long"),
        ((replace(ESP, type_guid=UUID(int=0)),), "no type"),
    ):
        with pytest.raises(InvalidArgumentError, match=reason):
            gpt.encode(replace(TABLE, partitions=partitions))
    with pytest.raises(InvalidArgumentError, match="too small"):
        gpt.encode(replace(TABLE, disk_sectors=60, partitions=()))


def test_a_partition_knows_its_size() -> None:
    assert ESP.sectors == 2048


@given(
    starts=st.lists(st.integers(0, 100), min_size=1, max_size=20, unique=True),
    name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=18),
)
def test_any_partitions_come_back(starts: list[int], name: str) -> None:
    partitions = tuple(
        DiskPartition(
            type_guid=gpt.DATA_TYPE,
            guid=UUID(int=number + 1),
            name=name,
            first_lba=2048 + 16 * start,
            last_lba=2048 + 16 * start + 15,
        )
        for number, start in enumerate(starts)
    )
    table = replace(TABLE, partitions=partitions)
    assert _decoded(_disk(table)) == table


@given(at=st.integers(0, 92), value=st.binary(min_size=1, max_size=16))
def test_a_damaged_header_with_a_right_checksum_never_breaks_the_reader(
    at: int, value: bytes
) -> None:
    disk = _disk(replace(TABLE, disk_sectors=128, partitions=()))
    for sector in (1, 127):
        start = 512 * sector
        disk[start + at : start + at + len(value)] = value
        header = bytes(disk[start : start + 92])
        checksum = zlib.crc32(header[:16] + bytes(4) + header[20:])
        disk[start + 16 : start + 20] = struct.pack("<I", checksum)
    try:
        _decoded(disk)
    except DataLossError as refused:
        assert refused.remedy  # noqa: PT017
