# SPDX-License-Identifier: Apache-2.0
"""What is found on a disk decides whether it is overwritten."""

import struct
from uuid import UUID

import pytest

from metropolis.formats import fat
from metropolis.host.disk_writing import write_sparse, write_table
from metropolis.node.installation.disk import (
    DiskGuids,
    SystemPayload,
    plan_disk,
    write_disk,
)
from metropolis.node.installation.inspection import Content, inspect
from metropolis.node.installation.target import Holding
from unit.node.installation.simulated_disk import SimulatedDisk

MIB = 1 << 20
GUIDS = DiskGuids.derived(UUID(int=1), "disk")
PLAN = plan_disk(2400 * MIB, guids=GUIDS)


def _inspected(disk: SimulatedDisk) -> Content:
    return inspect(lambda at, size: disk.pread(size, at), disk_bytes=disk.size_bytes)


def _installed(**files: bytes) -> SimulatedDisk:
    disk = SimulatedDisk(2400 * MIB)
    system = SystemPayload(chunks=[b"system"], size_bytes=6, guid=UUID(int=2))
    write_disk(
        disk,
        PLAN,
        system=system,
        esp_files={f"metropolis/{name}": data for name, data in files.items()},
    )
    return disk


def test_a_disk_of_zeros_is_blank() -> None:
    assert _inspected(SimulatedDisk(8 * MIB)) == Content(holding=Holding.BLANK)


@pytest.mark.parametrize("offset", [0, 65536, 8 * MIB - 512])
def test_a_disk_with_anything_where_labels_are_is_not_blank(offset: int) -> None:
    disk = SimulatedDisk(8 * MIB)
    disk.pwrite(b"label", offset)
    assert _inspected(disk).holding is Holding.OTHER


def test_an_older_table_is_told_by_its_partitions() -> None:
    disk = SimulatedDisk(8 * MIB)
    entry = struct.pack("<B3sB3sII", 0x80, b"", 0x83, b"", 2048, 4096)
    disk.pwrite(bytes(446) + entry + bytes(48) + b"\x55\xaa", 0)
    found = _inspected(disk)
    assert (found.holding, found.partitions) == (Holding.OTHER, ("MBR type 83 2 MiB",))


def test_a_system_that_was_never_enrolled_is_no_node() -> None:
    found = _inspected(_installed(**{"parameters.pb": b"told"}))
    assert (found.holding, found.guid) == (Holding.SYSTEM, GUIDS.disk)
    assert found.partitions == (
        "ESP 256 MiB",
        "METROPOLIS-SYSTEM-A 512 MiB",
        "METROPOLIS-SYSTEM-B 512 MiB",
        "METROPOLIS-NODE-DATA 1118 MiB",
    )
    assert found.partition_guids == (GUIDS.esp, UUID(int=2), GUIDS.slot_b, GUIDS.data)


@pytest.mark.parametrize(
    "name",
    [
        "sealed_configuration.pb",
        "sealed_configuration.pb.copy",
        "enrolment.pb",
        "SEALED_CONFIGURATION.PB",
    ],
)
def test_what_a_node_has_written_makes_it_a_node(name: str) -> None:
    assert _inspected(_installed(**{name: b"x"})).holding is Holding.NODE


def test_a_decommissioned_node_may_be_installed_again() -> None:
    assert _inspected(_installed(**{"farewell.pb": b"done"})).holding is Holding.SYSTEM


def test_a_system_whose_esp_cannot_be_read_may_have_been_a_node() -> None:
    disk = _installed()
    disk.zero(PLAN.esp.offset_bytes, MIB)
    assert _inspected(disk).holding is Holding.NODE


def test_a_table_of_somebody_else_is_other_data() -> None:
    disk = _installed()
    table = PLAN.table(slot_a_guid=UUID(int=2))
    esp_only = type(table)(
        disk_guid=table.disk_guid,
        disk_sectors=table.disk_sectors,
        partitions=table.partitions[:1],
    )
    write_table(disk, esp_only)
    found = _inspected(disk)
    assert (found.holding, found.partitions) == (Holding.OTHER, ("ESP 256 MiB",))


def test_the_backup_table_counts_when_the_primary_is_torn() -> None:
    disk = _installed()
    disk.zero(512, 512)
    assert _inspected(disk).holding is Holding.SYSTEM


def test_a_file_system_on_the_whole_disk_is_other_data() -> None:
    disk = SimulatedDisk(40 * MIB)
    chunks = fat.build({"a": b"b"}, size_bytes=40 * MIB, label="STICK", volume_id=1)
    write_sparse(disk, chunks, offset_bytes=0, size_bytes=40 * MIB)
    assert _inspected(disk).holding is Holding.OTHER
