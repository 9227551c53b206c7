# SPDX-License-Identifier: Apache-2.0
"""The layout of a node's disk, and writing it so that it can be interrupted at any byte.

    LBA 0     protective MBR ┐ until the end of an installation: zeros, and at LBA 1 the mark
    LBA 1     GPT            ┘ of an installation that is under way
    1 MiB     ESP                    FAT32: both unified kernel images, what a node knows in clear
    257 MiB   METROPOLIS-SYSTEM-A    one system image and its hash tree
    769 MiB   METROPOLIS-SYSTEM-B    the other one, after an update
    1281 MiB  METROPOLIS-NODE-DATA   the rest, LUKS2
    end       backup GPT

Order of writing, each step on the disk before the next begins: the old tables go and the mark
comes; the content; the backup table; the primary table. A table with a torn header or torn entries
has a wrong checksum, so whoever reads the disk finds no table, or one whose content is complete.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid5

from metropolis.base.errors import InvalidArgumentError
from metropolis.formats import fat, gpt
from metropolis.host.disk_writing import (
    ALIGNMENT_BYTES,
    BACKUP_BYTES,
    SECTOR_BYTES,
    WritableDisk,
    forget_tables,
    write_sparse,
    write_table,
)
from metropolis.node.installation.mark import encode_mark

MIB: Final = 1 << 20
ESP_BYTES: Final = 256 * MIB  # two unified kernel images of 20 MiB, a fallback, and room to grow
SLOT_BYTES: Final = 512 * MIB
DATA_BYTES_MIN: Final = 1024 * MIB  # LUKS2 header, XFS (300 MB) and etcd with a little room
ESP_LABEL: Final = "METRO_ESP"
# Before what is left of an older system can be taken for something: superblocks, LUKS headers.
_STALE_BYTES: Final = 4 * MIB
DISK_BYTES_MIN: Final = ALIGNMENT_BYTES + ESP_BYTES + 2 * SLOT_BYTES + DATA_BYTES_MIN + MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskGuids:
    """Names of a disk and of those of its partitions that no image names."""

    disk: UUID
    esp: UUID
    slot_b: UUID  # until an update writes an image there
    data: UUID

    @classmethod
    def derived(cls, install_id: UUID, disk_name: str) -> "DiskGuids":
        """Derive the names that one medium gives to one disk: the same at every try.

        Args:
            install_id: Of the medium; drawn when it was made.
            disk_name: What tells the disk from the others of its machine: its serial number.
        """
        disk = uuid5(install_id, disk_name)
        return cls(
            disk=disk, esp=uuid5(disk, "esp"), slot_b=uuid5(disk, "b"), data=uuid5(disk, "data")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """A range of a disk, in bytes."""

    offset_bytes: int
    size_bytes: int

    @property
    def end_bytes(self) -> int:
        """The first byte behind it."""
        return self.offset_bytes + self.size_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskPlan:
    """Where everything goes. Immutable: the installer prints and writes the same plan."""

    disk_bytes: int
    guids: DiskGuids
    esp: Extent
    slot_a: Extent
    slot_b: Extent
    data: Extent

    def table(self, *, slot_a_guid: UUID) -> gpt.PartitionTable:
        """Return the table of partitions, once the image in slot A has given its name."""
        rows = (
            (gpt.ESP_TYPE, self.guids.esp, gpt.ESP_NAME, self.esp),
            (gpt.SYSTEM_A_TYPE, slot_a_guid, gpt.SYSTEM_A_NAME, self.slot_a),
            (gpt.SYSTEM_B_TYPE, self.guids.slot_b, gpt.SYSTEM_B_NAME, self.slot_b),
            (gpt.DATA_TYPE, self.guids.data, gpt.DATA_NAME, self.data),
        )
        return gpt.PartitionTable(
            disk_guid=self.guids.disk,
            disk_sectors=self.disk_bytes // SECTOR_BYTES,
            partitions=tuple(
                gpt.DiskPartition(
                    type_guid=kind,
                    guid=guid,
                    name=name,
                    first_lba=extent.offset_bytes // SECTOR_BYTES,
                    last_lba=extent.end_bytes // SECTOR_BYTES - 1,
                )
                for kind, guid, name, extent in rows
            ),
            sector_bytes=SECTOR_BYTES,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemPayload:
    """A system image on its way to a slot.

    Attributes:
        chunks: Its bytes, front to back: EROFS and hash tree.
        size_bytes: How many.
        guid: The first 16 bytes of its root hash: the kernel finds the slot by it.
    """

    chunks: Iterable[bytes]
    size_bytes: int
    guid: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the system image is on the disk."""

    done_bytes: int
    total_bytes: int


def plan_disk(disk_bytes: int, *, guids: DiskGuids) -> DiskPlan:
    """Lay out a disk.

    Args:
        disk_bytes: Size of the disk; what does not fill a sector is left alone.

    Raises:
        InvalidArgumentError: it is too small; the message names the minimum.
    """
    if disk_bytes < DISK_BYTES_MIN:
        raise InvalidArgumentError(
            f"the disk has {disk_bytes // MIB} MiB, a node needs at least "
            f"{DISK_BYTES_MIN // MIB} MiB",
            remedy="Use a disk of at least 4 GB.",
        )
    usable = (disk_bytes // SECTOR_BYTES) * SECTOR_BYTES - BACKUP_BYTES
    end = usable // ALIGNMENT_BYTES * ALIGNMENT_BYTES
    esp = Extent(offset_bytes=ALIGNMENT_BYTES, size_bytes=ESP_BYTES)
    slot_a = Extent(offset_bytes=esp.end_bytes, size_bytes=SLOT_BYTES)
    slot_b = Extent(offset_bytes=slot_a.end_bytes, size_bytes=SLOT_BYTES)
    data = Extent(offset_bytes=slot_b.end_bytes, size_bytes=end - slot_b.end_bytes)
    assert data.size_bytes >= DATA_BYTES_MIN
    return DiskPlan(
        disk_bytes=disk_bytes, guids=guids, esp=esp, slot_a=slot_a, slot_b=slot_b, data=data
    )


def write_disk(
    device: WritableDisk,
    plan: DiskPlan,
    *,
    system: SystemPayload,
    esp_files: Mapping[str, bytes],
    report: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Write a node's disk: mark, content, backup table, primary table.

    Whatever was on the disk is gone as soon as this begins. Interrupted at any byte, it can be
    called again with the same arguments.

    Args:
        esp_files: Content of the EFI system partition by path.
        report: Called after every chunk of the system image.

    Raises:
        InvalidArgumentError: the image does not fit into a slot. Nothing was written.
        ResourceExhaustedError: the files do not fit into the ESP. Nothing was written.
        OSError: the disk failed.
    """
    if system.size_bytes > plan.slot_a.size_bytes:
        raise InvalidArgumentError(
            f"the system image has {system.size_bytes} bytes, a slot holds "
            f"{plan.slot_a.size_bytes}",
            remedy="Make the image smaller.",
        )
    table = plan.table(slot_a_guid=system.guid)
    mark = encode_mark(plan.guids.disk)
    volume_id = plan.guids.esp.int & 0xFFFFFFFF
    esp = tuple(  # all of it, before anything is lost
        fat.build(esp_files, size_bytes=plan.esp.size_bytes, label=ESP_LABEL, volume_id=volume_id)
    )
    forget_tables(device, disk_bytes=plan.disk_bytes, mark=mark)
    write_sparse(device, esp, offset_bytes=plan.esp.offset_bytes, size_bytes=plan.esp.size_bytes)
    _write_system(device, plan, system, report)
    for stale in (plan.slot_b, plan.data):
        device.zero(stale.offset_bytes, min(_STALE_BYTES, stale.size_bytes))
    device.flush()
    write_table(device, table)


def _write_system(
    device: WritableDisk,
    plan: DiskPlan,
    system: SystemPayload,
    report: Callable[[Progress], None],
) -> None:
    done = 0
    for chunk in system.chunks:
        assert done + len(chunk) <= system.size_bytes
        device.pwrite(chunk, plan.slot_a.offset_bytes + done)
        done += len(chunk)
        report(Progress(done_bytes=done, total_bytes=system.size_bytes))
    assert done == system.size_bytes
