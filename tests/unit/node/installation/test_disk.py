# SPDX-License-Identifier: Apache-2.0
"""A node's disk: its layout, and that writing it can be interrupted anywhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import DataLossError, InvalidArgumentError
from metropolis.formats import fat, gpt
from metropolis.host.disk_writing import WritableDisk
from metropolis.host.linux.raw_disk import RawDisk
from metropolis.node.installation.disk import (
    DISK_BYTES_MIN,
    MIB,
    DiskGuids,
    DiskPlan,
    Extent,
    Progress,
    SystemPayload,
    plan_disk,
    write_disk,
)
from metropolis.node.installation.mark import decode_mark, encode_mark
from unit.node.installation.simulated_disk import PowerCutError, SimulatedDisk

GUIDS: Final = DiskGuids.derived(UUID(int=1), "disk-1")
ROOT: Final = UUID(int=2)
FILES: Final = {"EFI/BOOT/BOOTX64.EFI": b"MZ" * 5000, "metropolis/parameters.pb": b"told"}
OLD_TABLE: Final = gpt.PartitionTable(
    disk_guid=UUID(int=3),
    disk_sectors=44 * MIB // 512,
    partitions=(
        gpt.DiskPartition(
            type_guid=gpt.DATA_TYPE, guid=UUID(int=4), name="old", first_lba=2048, last_lba=9000
        ),
    ),
)


def _small_plan() -> DiskPlan:
    """A plan with the real rules and sizes that a test can copy a hundred times."""
    offset = MIB
    extents: list[Extent] = []
    for size in (34, 1, 1, 6):
        extents.append(Extent(offset_bytes=offset, size_bytes=size * MIB))
        offset += size * MIB
    esp, slot_a, slot_b, data = extents
    return DiskPlan(
        disk_bytes=44 * MIB, guids=GUIDS, esp=esp, slot_a=slot_a, slot_b=slot_b, data=data
    )


def _system() -> SystemPayload:
    chunks = [bytes([number]) * 100_000 for number in range(1, 8)]
    return SystemPayload(chunks=chunks, size_bytes=700_000, guid=ROOT)


def _install(device: WritableDisk, plan: DiskPlan) -> None:
    write_disk(device, plan, system=_system(), esp_files=FILES)


def _table(read: Callable[[int, int], bytes], size: int) -> gpt.PartitionTable | None:
    try:
        return gpt.decode(read, disk_bytes=size)
    except DataLossError:
        return None


def _used_disk() -> SimulatedDisk:
    disk = SimulatedDisk(44 * MIB, fill=b"\xa5old dat")
    encoded = gpt.encode(OLD_TABLE)
    disk.pwrite(encoded.primary, 0)
    disk.pwrite(encoded.backup, encoded.backup_lba * 512)
    disk.flush()
    return disk


def test_a_disk_of_4_gb_gets_all_partitions_and_the_rest_is_data() -> None:
    plan = plan_disk(4 * 10**9, guids=GUIDS)
    table = plan.table(slot_a_guid=ROOT)
    assert [(each.name, each.sectors * 512 // MIB) for each in table.partitions] == [
        ("ESP", 256),
        ("METROPOLIS-SYSTEM-A", 512),
        ("METROPOLIS-SYSTEM-B", 512),
        ("METROPOLIS-NODE-DATA", 2533),
    ]
    assert [each.guid for each in table.partitions] == [GUIDS.esp, ROOT, GUIDS.slot_b, GUIDS.data]
    assert [each.type_guid for each in table.partitions] == [
        gpt.ESP_TYPE,
        gpt.SYSTEM_A_TYPE,
        gpt.SYSTEM_B_TYPE,
        gpt.DATA_TYPE,
    ]


@given(st.integers(min_value=DISK_BYTES_MIN, max_value=1 << 44))
def test_every_disk_that_is_large_enough_has_a_valid_aligned_table(disk_bytes: int) -> None:
    plan = plan_disk(disk_bytes, guids=GUIDS)
    table = plan.table(slot_a_guid=ROOT)
    gpt.encode(table)
    assert all(each.first_lba * 512 % MIB == 0 for each in table.partitions)
    assert all(each.sectors * 512 % MIB == 0 for each in table.partitions)


def test_a_disk_that_is_too_small_is_refused_with_the_minimum() -> None:
    plan_disk(DISK_BYTES_MIN, guids=GUIDS)
    with pytest.raises(InvalidArgumentError) as caught:
        plan_disk(DISK_BYTES_MIN - 1, guids=GUIDS)
    assert str(caught.value) == "the disk has 2305 MiB, a node needs at least 2306 MiB"


def test_a_medium_gives_a_disk_the_same_names_at_every_try_and_no_other_disk() -> None:
    assert DiskGuids.derived(UUID(int=1), "disk-1") == GUIDS
    others = [DiskGuids.derived(UUID(int=1), "disk-2"), DiskGuids.derived(UUID(int=2), "disk-1")]
    assert all(each.disk != GUIDS.disk and each.data != GUIDS.data for each in others)
    assert len({GUIDS.disk, GUIDS.esp, GUIDS.slot_b, GUIDS.data}) == 4


def test_a_real_file_gets_everything_and_nothing_of_before_is_left(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"\xa5" * 44 * MIB)
    plan = _small_plan()
    seen: list[Progress] = []
    with RawDisk(path, writable=True) as disk:
        write_disk(disk, plan, system=_system(), esp_files=FILES, report=seen.append)

        assert gpt.decode(lambda at, size: disk.pread(size, at), disk_bytes=disk.size_bytes) == (
            plan.table(slot_a_guid=ROOT)
        )
        esp = fat.decode(lambda at, size: disk.pread(size, plan.esp.offset_bytes + at))
        assert dict(esp) == FILES
        assert disk.pread(700_000, plan.slot_a.offset_bytes) == b"".join(_system().chunks)
        for stale in (plan.slot_b, plan.data):
            assert not any(disk.pread(MIB, stale.offset_bytes))
    assert seen[-1] == Progress(done_bytes=700_000, total_bytes=700_000)
    assert path.stat().st_blocks * 512 < 10 * MIB  # sparse: zeros were not written


def test_a_used_disk_gets_the_same_esp_as_a_blank_one() -> None:
    plan = _small_plan()
    used, blank = _used_disk(), SimulatedDisk(plan.disk_bytes)
    for disk in (used, blank):
        _install(disk, plan)
    offset, size = plan.esp.offset_bytes, plan.esp.size_bytes
    assert used.pread(size, offset) == blank.pread(size, offset)


def test_an_image_that_does_not_fit_is_refused_before_anything_is_written() -> None:
    disk = _used_disk()
    before = list(disk.durable)
    system = SystemPayload(chunks=[], size_bytes=MIB + 1, guid=ROOT)
    with pytest.raises(InvalidArgumentError, match="a slot holds 1048576"):
        write_disk(disk, _small_plan(), system=system, esp_files=FILES)
    assert disk.durable == before


def test_an_installation_cut_at_any_operation_leaves_no_half_system_and_can_be_done_again() -> None:
    plan = _small_plan()
    whole = _used_disk()
    operations_before = whole.operations
    _install(whole, plan)
    count = whole.operations - operations_before
    assert count > 15
    seen: set[str] = set()
    for operation in range(count):
        for seed in range(8):
            disk = _used_disk()
            disk.cut_power_at(operation, seed=seed)
            with pytest.raises(PowerCutError):
                _install(disk, plan)
            disk.restart()
            seen.add(_judge(disk, plan))
            _install(disk, plan)
            assert disk.durable == whole.durable, f"operation {operation}, seed {seed}"
    assert seen == {"as before", "no table", "complete"}


def _judge(disk: SimulatedDisk, plan: DiskPlan) -> str:
    """Say what a reader finds after a power cut; half a system is not among the answers."""
    table = _table(lambda at, size: disk.pread(size, at), plan.disk_bytes)
    if table is None:
        return "no table"
    if table == OLD_TABLE:
        front, size = plan.esp.offset_bytes, plan.data.end_bytes - plan.esp.offset_bytes
        assert disk.pread(size, front) == _used_disk().pread(size, front), "a table of lost content"
        return "as before"
    assert table == plan.table(slot_a_guid=ROOT)
    esp = fat.decode(lambda at, size: disk.pread(size, plan.esp.offset_bytes + at))
    assert dict(esp) == FILES
    assert disk.pread(700_000, plan.slot_a.offset_bytes) == b"".join(_system().chunks)
    return "complete"


def test_the_mark_of_an_unfinished_installation_names_its_disk() -> None:
    disk = _used_disk()
    disk.cut_power_at(6, seed=1)
    with pytest.raises(PowerCutError):
        _install(disk, _small_plan())
    disk.restart()
    assert decode_mark(disk.pread(512, 512)) == GUIDS.disk


@given(st.binary(max_size=600))
def test_no_other_sector_is_taken_for_a_mark(sector: bytes) -> None:
    assert decode_mark(sector) is None


@given(st.integers(min_value=0, max_value=71))
def test_a_damaged_mark_is_none(position: int) -> None:
    mark = bytearray(encode_mark(GUIDS.disk))
    assert decode_mark(bytes(mark)) == GUIDS.disk
    mark[position] ^= 1
    assert decode_mark(bytes(mark)) is None
