# SPDX-License-Identifier: Apache-2.0
"""Where an install medium goes: a new file, or a device that may be overwritten."""

import contextlib
import errno
import os
import stat
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError, MetropolisError
from metropolis.host.linux.block_devices import Disk, disks, partitions
from metropolis.host.linux.raw_disk import RawDisk

_MOUNTS: Final = Path("/proc/self/mountinfo")
_SWAPS: Final = Path("/proc/swaps")
_SYSFS: Final = Path("/sys/class/block")
_MIB: Final = 1 << 20
_GB: Final = 10**9
_PRIVATE: Final = 0o600  # a register ticket may be inside


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """A device as an operator named it.

    Attributes:
        disk: The whole disk; None for a partition or something that is no disk.
        used_by: What uses it or a part of it now, for people.
        partitions: Name and size of each, for people.
    """

    path: Path
    disk: Disk | None
    used_by: Sequence[str] = ()
    partitions: Sequence[str] = ()


def is_device(path: Path) -> bool:
    """Whether a medium is to be written on a device; else it becomes a file.

    Raises:
        InvalidArgumentError: it is neither a block device nor a place for a file.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        if path.is_absolute() and path.parts[1:2] == ("dev",):
            raise InvalidArgumentError(
                f"there is no device {path}", remedy="Plug it in; `lsblk` shows what there is."
            ) from None
        return False
    if stat.S_ISBLK(mode):
        return True
    if not stat.S_ISREG(mode):
        raise InvalidArgumentError(
            f"{path} is neither a file nor a block device",
            remedy="Name a file that is to be made, or a whole disk such as /dev/sdx.",
        )
    return False


def check_device(facts: DeviceFacts, *, force: bool) -> Disk:
    """Decide whether a device may be overwritten. Pure.

    Raises:
        InvalidArgumentError: it is no whole disk.
        FailedPreconditionError: it is in use, not removable or read-only.
    """
    disk = facts.disk
    if disk is None:
        raise InvalidArgumentError(
            f"{facts.path} is no whole disk",
            remedy="Name the disk, not a partition of it: /dev/sdx, not /dev/sdx1.",
        )
    if disk.is_read_only:
        raise FailedPreconditionError(
            f"{facts.path} is read-only", remedy="Slide its write protection off, or use another."
        )
    if force:
        return disk
    if facts.used_by:
        raise FailedPreconditionError(
            f"{facts.path} is in use: {', '.join(facts.used_by)}",
            remedy="Unmount it first; --force overwrites it all the same.",
        )
    if not disk.is_removable:
        raise FailedPreconditionError(
            f"{facts.path} ({describe(facts)}) is not removable: it may be a disk of this computer",
            remedy="Name a stick, or add --force if it is the right disk.",
        )
    return disk


def describe(facts: DeviceFacts) -> str:
    """Describe what is about to be erased."""
    disk = facts.disk
    assert disk is not None
    named = [f"{disk.size_bytes / _GB:.1f} GB", disk.model]
    named.append(f"serial {disk.serial}" if disk.serial else "")
    inside = f"; it holds {', '.join(facts.partitions)}" if facts.partitions else ""
    return ", ".join(each for each in named if each) + inside


def look_at(path: Path) -> DeviceFacts:
    """Find out what a device is and who uses it."""
    name = path.resolve().name
    disk = next((each for each in disks() if each.name == name), None)
    if disk is None:
        return DeviceFacts(path=path, disk=None)
    names = (name, *sorted(each.name for each in (_SYSFS / name).iterdir() if _is_part(each)))
    return DeviceFacts(
        path=path,
        disk=disk,
        used_by=[*_mounted(names), *_swapped(names), *_held(names)],
        partitions=[
            f"{each.label or each.name} {each.size_bytes // _MIB} MiB" for each in partitions(disk)
        ],
    )


@contextmanager
def new_file(path: Path, size_bytes: int) -> Generator[RawDisk, None, None]:
    """Yield a sparse file that appears at `path` when the block ends well.

    Raises:
        FailedPreconditionError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with contextlib.suppress(FileNotFoundError):
            unfinished.unlink()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        os.close(os.open(unfinished, flags, _PRIVATE))
        try:
            os.truncate(unfinished, size_bytes)
            with RawDisk(unfinished, writable=True) as disk:
                yield disk
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as cause:
        raise _cannot(path, cause) from cause


@contextmanager
def open_device(path: Path, *, force: bool) -> Generator[RawDisk, None, None]:
    """Yield a device; the kernel reads its new partition table when the block ends.

    Raises:
        FailedPreconditionError: it cannot be opened or written.
    """
    try:
        with RawDisk(path, writable=True, exclusive=not force) as disk:
            yield disk
            disk.read_table_again()
    except OSError as cause:
        raise _cannot(path, cause) from cause


def _is_part(path: Path) -> bool:
    return (path / "partition").exists()


def _mounted(names: Sequence[str]) -> Sequence[str]:
    numbers = {_text(_SYSFS / name / "dev"): name for name in names}
    found: list[str] = []
    for line in _text(_MOUNTS).splitlines():
        fields = line.split()
        if fields[2] in numbers:
            found.append(f"{numbers[fields[2]]} is mounted at {fields[4]}")
    return found


def _swapped(names: Sequence[str]) -> Sequence[str]:
    used = {Path(line.split()[0]).name for line in _text(_SWAPS).splitlines()[1:]}
    return [f"{name} is swap space" for name in names if name in used]


def _held(names: Sequence[str]) -> Sequence[str]:
    """Name what is made of a device: RAID, LVM, encryption."""
    found: list[str] = []
    for name in names:
        with contextlib.suppress(OSError):
            holders = sorted(each.name for each in (_SYSFS / name / "holders").iterdir())
            found.extend(f"{name} is part of {holder}" for holder in holders)
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _cannot(path: Path, cause: OSError) -> MetropolisError:
    if cause.errno == errno.EBUSY:
        remedy = "Unmount it, and end what uses it; --force overwrites it all the same."
    elif cause.errno in {errno.EACCES, errno.EPERM}:
        remedy = "Run the command as root, or as a user who may write it."
    elif cause.errno == errno.ENOSPC:
        remedy = "Free space there, or name another place."
    else:
        remedy = "Check the device, or use another."
    return FailedPreconditionError(f"cannot write {path}: {cause.strerror or cause}", remedy=remedy)
