# SPDX-License-Identifier: Apache-2.0
"""A file that stands for a disk."""

from pathlib import Path

import pytest

from metropolis.host.linux.raw_disk import RawDisk

MIB = 1 << 20


def test_what_is_written_is_read_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"\xa5" * 4 * MIB)
    with RawDisk(path, writable=True) as disk:
        assert disk.size_bytes == 4 * MIB
        disk.pwrite(b"there", MIB)
        disk.flush()
        assert disk.pread(7, MIB - 1) == b"\xa5there\xa5"


@pytest.mark.parametrize(("offset", "size"), [(0, 4 * MIB), (4096, MIB), (700, 3000), (MIB, 0)])
def test_a_range_is_made_zeros_and_nothing_else(tmp_path: Path, offset: int, size: int) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"\xa5" * 4 * MIB)
    with RawDisk(path, writable=True) as disk:
        disk.zero(offset, size)
    after = 4 * MIB - offset - size
    assert path.read_bytes() == b"\xa5" * offset + bytes(size) + b"\xa5" * after


def test_zeros_take_no_room(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"\xa5" * 4 * MIB)
    with RawDisk(path, writable=True) as disk:
        disk.zero(0, 4 * MIB)
        disk.flush()
    assert path.stat().st_blocks == 0


def test_reading_behind_the_end_is_an_error_of_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"12345")
    with RawDisk(path, writable=False) as disk, pytest.raises(OSError, match="the disk ends here"):
        disk.pread(6, 0)
