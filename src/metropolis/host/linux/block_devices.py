# SPDX-License-Identifier: Apache-2.0
"""Disks and their partitions, as the kernel lists them in /sys/class/block.

The kernel says which partitions there are and what they are called, but not (before 6.13) their
GUIDs: those are read from the partition table on the disk.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from metropolis.base.errors import MetropolisError
from metropolis.formats import gpt

SYSFS: Final = Path("/sys/class/block")
DEVICES: Final = Path("/dev")
_SECTOR_BYTES: Final = 512  # what sysfs counts in, whatever the disk's own sectors are
_LOOK_AGAIN_S: Final = 0.02
_NO_DISKS: Final = ("dm-", "loop", "ram", "zram", "sr", "fd", "md", "nbd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A whole disk.

    Attributes:
        name: The kernel's, e.g. `vda`.
        is_removable: A medium that can be taken out, or anything behind USB.
        model: What the hardware calls itself, possibly empty.
        wwn: World wide name, e.g. `naa.5000c500…`, possibly empty.
        is_rotating: It has platters, or does not say that it has none.
    """

    name: str
    size_bytes: int
    sector_bytes: int
    is_removable: bool
    is_read_only: bool
    model: str
    serial: str
    wwn: str = ""
    is_rotating: bool = False

    @property
    def device(self) -> str:
        """Path of the device node."""
        return f"/dev/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPartition:
    """A partition that the kernel knows, with what the table on its disk says about it.

    Attributes:
        name: The kernel's, e.g. `vda2`.
        guid: Unique GUID (PARTUUID), lower case.
        type_guid: Lower case.
        label: The partition's name in the table (PARTNAME).
        first_byte: Where on its disk it begins.
        sector_bytes: What its disk counts in.
    """

    name: str
    disk: str
    number: int
    guid: str
    type_guid: str
    label: str
    size_bytes: int
    first_byte: int = 0
    sector_bytes: int = 512

    @property
    def device(self) -> str:
        """Path of the device node."""
        return f"/dev/{self.name}"


def disks(sysfs: Path = SYSFS) -> Iterator[Disk]:
    """Yield every disk with a medium in it, by name; no partitions, no devices made of others."""
    for name in sorted(_listing(sysfs)):
        place = sysfs / name
        if name.startswith(_NO_DISKS) or (place / "partition").exists():
            continue
        size_bytes = _number(place / "size") * _SECTOR_BYTES
        if size_bytes == 0:
            continue
        is_usb = "/usb" in os.path.realpath(place)
        yield Disk(
            name=name,
            size_bytes=size_bytes,
            sector_bytes=_number(place / "queue" / "logical_block_size") or _SECTOR_BYTES,
            is_removable=is_usb or _number(place / "removable") == 1,
            is_read_only=_number(place / "ro") == 1,
            model=_text(place / "device" / "model"),
            serial=_text(place / "device" / "serial")
            or _text(place / "serial")
            or _unit_serial(place / "device" / "vpd_pg80"),
            wwn=_text(place / "wwid") or _text(place / "device" / "wwid"),
            is_rotating=_number(place / "queue" / "rotational") == 1,
        )


def partitions(
    disk: Disk, *, sysfs: Path = SYSFS, devices: Path = DEVICES
) -> Iterator[FoundPartition]:
    """Yield the partitions of a disk that both the kernel and the table on it know.

    A disk without a readable table has none.
    """
    table = _read_table(devices / disk.name, disk)
    if table is None:
        return
    by_start = {entry.first_lba * disk.sector_bytes: entry for entry in table.partitions}
    for name in sorted(_listing(sysfs / disk.name)):
        place = sysfs / disk.name / name
        number = _number(place / "partition")
        entry = by_start.get(_number(place / "start") * _SECTOR_BYTES)
        if number == 0 or entry is None:
            continue
        yield FoundPartition(
            name=name,
            disk=disk.name,
            number=number,
            guid=str(entry.guid),
            type_guid=str(entry.type_guid),
            label=entry.name,
            size_bytes=_number(place / "size") * _SECTOR_BYTES,
            first_byte=entry.first_lba * disk.sector_bytes,
            sector_bytes=disk.sector_bytes,
        )


def partitions_of(disk_name: str) -> tuple[FoundPartition, ...]:
    """Return the partitions of the disk of this name."""
    return tuple(each for each in all_partitions() if each.disk == disk_name)


def all_partitions(*, sysfs: Path = SYSFS, devices: Path = DEVICES) -> Iterator[FoundPartition]:
    """Yield the partitions of all disks."""
    for disk in disks(sysfs):
        yield from partitions(disk, sysfs=sysfs, devices=devices)


def wait_partitions(guid: str, *, timeout_s: float) -> tuple[FoundPartition, ...]:
    """Wait until at least one partition has this GUID; return all that have it.

    Returns:
        Nothing, if none has appeared after `timeout_s`.
    """
    deadline_s = time.monotonic() + timeout_s
    seen: tuple[str, ...] = ()
    while True:
        names = tuple(sorted(_listing(SYSFS)))
        if names != seen:  # reading every table again and again would be slow on many disks
            seen = names
            found = tuple(each for each in all_partitions() if each.guid == guid)
            if found:
                return found
        if time.monotonic() >= deadline_s:
            return ()
        time.sleep(_LOOK_AGAIN_S)


def _read_table(device: Path, disk: Disk) -> gpt.PartitionTable | None:
    try:
        descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return gpt.decode(
            lambda offset, size: os.pread(descriptor, size, offset), disk_bytes=disk.size_bytes
        )
    except (OSError, ValueError, MetropolisError):
        return None
    finally:
        os.close(descriptor)


def _listing(path: Path) -> list[str]:
    try:
        return os.listdir(path)  # noqa: PTH208  # names are wanted, not paths
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _unit_serial(path: Path) -> str:
    """Read the serial number of a SCSI or SATA disk: a page with a header of four bytes."""
    try:
        return path.read_bytes()[4:].decode("ascii", errors="replace").strip(" \0")
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _text(path)
    return int(text) if text.isdecimal() else 0
