# SPDX-License-Identifier: Apache-2.0
"""What the boot asks of the kernel, as far as no kernel is needed for it."""

import os
import struct
from pathlib import Path

import pytest

from metropolis.formats import gpt
from metropolis.host.linux.block_devices import disks, partitions
from metropolis.host.linux.device_mapper import VerityTable, encode_request, encode_target
from metropolis.host.linux.efi_variables import LinuxEfiVariables, read_text
from metropolis.host.linux.kernel_log import KernelRecord, parse_record
from metropolis.host.linux.modules import modaliases
from metropolis.host.linux.watchdog import LinuxWatchdog, arm_watchdog


def test_the_verity_table_stops_the_machine_at_the_first_wrong_block() -> None:
    table = VerityTable(device="/dev/vda2", data_blocks=77, root_hash="ab" * 32, salt="cd" * 32)
    assert table.parameters() == (
        "1 /dev/vda2 /dev/vda2 4096 4096 77 77 "
        f"sha256 {'ab' * 32} {'cd' * 32} 1 panic_on_corruption"
    )


def test_requests_to_the_device_mapper_have_the_kernels_layout() -> None:
    target = encode_target("verity", sectors=616, parameters="x" * 9)
    assert len(target) == 40 + 16
    assert struct.unpack_from("=QQiI16s", target) == (0, 616, 0, 56, b"verity".ljust(16, b"\0"))
    request = encode_request(
        "system", uuid="CRYPT-VERITY-system", flags=1, targets=1, payload=target
    )
    version = struct.unpack_from("=3I", request)
    size, start, count, _, flags = struct.unpack_from("=5I", request, 12)
    assert (version, size, start, count, flags) == ((4, 0, 0), len(request), 312, 1, 1)
    assert request[48:54] == b"system"
    assert request[176:195] == b"CRYPT-VERITY-system"
    assert request[312:].startswith(target)


@pytest.mark.parametrize(
    ("data", "record"),
    [
        (
            b"6,339,5140900,-;NET: Registered\n SUBSYSTEM=x\n",
            KernelRecord(priority=6, since_start_s=5.1409, text="NET: Registered"),
        ),
        (
            b"12,1,2000000,c;said by a program",
            KernelRecord(
                priority=4, since_start_s=2.0, text="said by a program", is_of_kernel=False
            ),
        ),
        (b"torn", KernelRecord(priority=6, since_start_s=0.0, text="torn")),
    ],
)
def test_the_kernels_lines_are_read(data: bytes, record: KernelRecord) -> None:
    assert parse_record(data) == record


def test_firmware_variables_are_files_with_attributes(tmp_path: Path) -> None:
    variables = LinuxEfiVariables(tmp_path)
    assert variables.read("BootNext") is None
    variables.write("BootNext", b"\x03\x00")
    assert variables.read("BootNext") == b"\x03\x00"
    (path,) = tmp_path.iterdir()
    assert path.read_bytes() == b"\x07\0\0\0\x03\x00"
    assert variables.names() == (("BootNext", "8be4df61-93ca-11d2-aa0d-00e098032b8c"),)
    variables.remove("BootNext")
    variables.remove("BootNext")
    assert variables.names() == ()
    assert read_text("boot\0".encode("utf-16-le")) == "boot"
    assert read_text(None) is None


def test_devices_are_asked_by_bus(tmp_path: Path) -> None:
    device = tmp_path / "pci" / "devices" / "0000:00:01.0"
    device.mkdir(parents=True)
    (device / "modalias").write_text("pci:v00001AF4d00001042\n")
    (tmp_path / "pci" / "devices" / "silent").mkdir()
    assert list(modaliases(["pci", "usb"], place=tmp_path)) == ["pci:v00001AF4d00001042"]


def test_partitions_are_those_that_kernel_and_table_agree_on(tmp_path: Path) -> None:
    from uuid import UUID  # noqa: PLC0415

    sysfs, devices = tmp_path / "sys", tmp_path / "dev"
    known = gpt.DiskPartition(
        type_guid=gpt.ESP_TYPE, guid=UUID(int=5), name="ESP", first_lba=2048, last_lba=4095
    )
    unknown = gpt.DiskPartition(
        type_guid=gpt.DATA_TYPE, guid=UUID(int=6), name="DATA", first_lba=4096, last_lba=6143
    )
    sectors = 8192
    table = gpt.encode(
        gpt.PartitionTable(disk_guid=UUID(int=9), disk_sectors=sectors, partitions=(known, unknown))
    )
    for place, facts in (
        ("vda", {"size": sectors, "removable": 0, "ro": 0}),
        ("vda/vda1", {"partition": 1, "start": 2048, "size": 2048}),
        ("dm-0", {"size": 5}),
        ("sr0", {"size": 0}),
    ):
        (sysfs / place).mkdir(parents=True)
        for name, value in facts.items():
            (sysfs / place / name).write_text(f"{value}\n")
    devices.mkdir()
    with (devices / "vda").open("wb") as disk:
        disk.write(table.primary)
        disk.truncate(sectors * 512)
        disk.seek(table.backup_lba * 512)
        disk.write(table.backup)
    (disk_found,) = disks(sysfs)
    assert (disk_found.name, disk_found.size_bytes) == ("vda", sectors * 512)
    (found,) = partitions(disk_found, sysfs=sysfs, devices=devices)
    assert (found.name, found.number, found.label) == ("vda1", 1, "ESP")
    assert (found.guid, found.type_guid) == (str(known.guid), str(gpt.ESP_TYPE))


def test_a_watchdog_is_fed_and_disarmed_by_what_is_written() -> None:
    reading, writing = os.pipe()
    watchdog = LinuxWatchdog(writing, timeout_s=60)
    watchdog.feed()
    watchdog.disarm()
    watchdog.disarm()
    watchdog.feed()
    assert not watchdog.is_armed
    assert os.read(reading, 10) == b"\0V"
    os.close(reading)
    assert arm_watchdog(60, device="/dev/none") is None
