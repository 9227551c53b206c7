# SPDX-License-Identifier: Apache-2.0
"""An install medium on a device: it fits, and half of one is none."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from metropolis.base.errors import DataLossError, InvalidArgumentError
from metropolis.formats import gpt
from metropolis.formats.install_medium import MediumSettings
from metropolis.host.linux.raw_disk import RawDisk
from metropolis.image.media import MediumContent, medium_table, plan_medium, write_medium

MIB = 1 << 20
SYSTEM_BYTES = 3 * MIB + 4096
CONTENT = MediumContent(
    settings=MediumSettings(
        install_id=UUID(int=1),
        product="Metropolis Node 0.1.0",
        system_bytes=SYSTEM_BYTES,
        root_hash=bytes(range(32)),
        kernel_sha256=bytes(32),
    ),
    kernel=b"MZ" * MIB,
    parameters=b"told",
    enrolment={"PK": b"1", "KEK": b"2", "db": b"3"},
)


def _system(size: int = SYSTEM_BYTES) -> Iterator[bytes]:
    for at in range(0, size, MIB):
        yield b"\x5a" * min(MIB, size - at)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[RawDisk]:
    """A used stick of 1 GiB."""
    path = tmp_path / "stick"
    path.touch()
    os.truncate(path, 1 << 30)
    with RawDisk(path, writable=True) as disk:
        for offset in (0, (1 << 30) - MIB):
            disk.pwrite(b"\xa5" * MIB, offset)
        yield disk


def _table(disk: RawDisk) -> gpt.PartitionTable:
    return gpt.decode(lambda at, size: disk.pread(size, at), disk_bytes=disk.size_bytes)


def test_the_table_fits_the_device_and_not_the_content(device: RawDisk) -> None:
    plan = plan_medium(CONTENT, device_bytes=device.size_bytes)
    write_medium(device, plan, CONTENT, _system())
    table = _table(device)
    assert table == medium_table(plan, CONTENT.settings)
    assert table.disk_sectors == (1 << 30) // 512
    device.zero(512, 512)
    assert _table(device) == table  # from the backup at the end of the device
    system = table.partitions[1]
    assert device.pread(SYSTEM_BYTES, system.first_lba * 512) == b"\x5a" * SYSTEM_BYTES
    assert str(system.guid) == "00010203-0405-0607-0809-0a0b0c0d0e0f"


def test_a_device_that_is_too_small_is_refused_with_what_is_needed() -> None:
    needed = plan_medium(CONTENT).disk_bytes
    assert plan_medium(CONTENT, device_bytes=needed).disk_bytes == needed
    with pytest.raises(InvalidArgumentError) as caught:
        plan_medium(CONTENT, device_bytes=needed - 1)
    assert str(caught.value) == "the device has 69 MiB, this medium needs 70 MiB"


@pytest.mark.parametrize("size", [SYSTEM_BYTES - 4096, SYSTEM_BYTES + 4096])
def test_an_image_of_another_size_gives_no_medium(device: RawDisk, size: int) -> None:
    plan = plan_medium(CONTENT, device_bytes=device.size_bytes)
    with pytest.raises(InvalidArgumentError, match=f"is not {SYSTEM_BYTES} bytes long"):
        write_medium(device, plan, CONTENT, _system(size))
    with pytest.raises(DataLossError):
        _table(device)


def test_an_interrupted_medium_has_no_table(device: RawDisk) -> None:
    plan = plan_medium(CONTENT, device_bytes=device.size_bytes)

    def interrupted() -> Iterator[bytes]:
        yield b"\x5a" * MIB
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_medium(device, plan, CONTENT, interrupted())
    with pytest.raises(DataLossError):
        _table(device)
