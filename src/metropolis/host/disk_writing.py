# SPDX-License-Identifier: Apache-2.0
"""Putting file systems and partition tables on a disk so that it can be interrupted at any byte.

Whoever writes a disk begins with `forget_tables`, writes the content, and ends with `write_table`:
a table whose header or entries are torn has a wrong checksum, so a reader finds no table, or one
whose content is complete.
"""

from collections.abc import Iterable
from typing import Final, Protocol

from metropolis.formats import gpt

SECTOR_BYTES: Final = 512
ALIGNMENT_BYTES: Final = 1 << 20
# What every table takes at the end of a disk: 128 entries of 128 bytes, and a header.
BACKUP_BYTES: Final = 128 * 128 + SECTOR_BYTES


class WritableDisk(Protocol):
    """A disk, or a file that stands for one. Offsets and sizes in bytes."""

    def pread(self, size: int, offset: int) -> bytes:
        """Read exactly `size` bytes."""
        ...

    def pwrite(self, data: bytes, offset: int) -> None:
        """Write all of `data`."""
        ...

    def zero(self, offset: int, size: int) -> None:
        """Make a range read as zeros."""
        ...

    def flush(self) -> None:
        """Return when everything written so far outlives a power cut."""
        ...


def forget_tables(device: WritableDisk, *, disk_bytes: int, mark: bytes = b"") -> None:
    """Take both old tables away, before anything that they speak of is touched.

    Args:
        mark: What to leave at LBA 1 instead, at most a sector.
    """
    assert len(mark) <= SECTOR_BYTES
    end = disk_bytes // SECTOR_BYTES * SECTOR_BYTES
    device.zero(end - BACKUP_BYTES, BACKUP_BYTES)
    device.pwrite(bytes(SECTOR_BYTES) + mark.ljust(ALIGNMENT_BYTES - SECTOR_BYTES, b"\0"), 0)
    device.flush()


def write_sparse(
    device: WritableDisk, chunks: Iterable[tuple[int, bytes]], *, offset_bytes: int, size_bytes: int
) -> None:
    """Write a file system that is given in pieces, and zeros everywhere between them.

    The zeros count: what an older system left there would be read as a part of this one.

    Args:
        chunks: (offset within the file system, bytes), in ascending order.
        offset_bytes: Where the file system begins.
        size_bytes: How long it is.
    """
    position = 0
    for offset, chunk in chunks:
        assert position <= offset
        if position < offset:
            device.zero(offset_bytes + position, offset - position)
        device.pwrite(chunk, offset_bytes + offset)
        position = offset + len(chunk)
    assert position <= size_bytes
    if position < size_bytes:
        device.zero(offset_bytes + position, size_bytes - position)


def write_table(device: WritableDisk, table: gpt.PartitionTable) -> None:
    """Make a partition table valid, the backup first. Mends one whose half was torn, too."""
    encoded = gpt.encode(table)
    device.pwrite(encoded.backup, encoded.backup_lba * table.sector_bytes)
    device.flush()
    device.pwrite(encoded.primary, 0)
    device.flush()
