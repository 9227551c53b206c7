# SPDX-License-Identifier: Apache-2.0
"""Whether a filesystem layout can be built: every device that it uses is one that it makes."""

from collections import Counter
from collections.abc import Iterable

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.model.layout import FilesystemLayout, LayoutDisk, LvmType

_NAMELESS = frozenset({"tmpfs"})  # formats of what lies on no device
_UNMOUNTED = frozenset({"swap", "none"})  # whose path need not be one
_DEVICES_MIN: dict[LvmType, int] = {"linear": 1, "striped": 2, "raid1": 2}


def partition_device(disk: str, number: int) -> str:
    """Name a partition as the kernel does: `/dev/sda1`, `/dev/nvme0n1p1`."""
    return f"{disk}p{number}" if disk[-1:].isdigit() else f"{disk}{number}"


def validate_devices(layout: FilesystemLayout) -> None:
    """Judge a layout by itself.

    Raises:
        InvalidArgumentError: what cannot be built, and why.
    """
    _refuse_twice("disks", (disk.device for disk in layout.disks))
    _refuse_twice("raid", (raid.array_name for raid in layout.raid))
    _refuse_twice("volumegroups", (group.name for group in layout.volume_groups))
    books = _Devices()
    for disk in layout.disks:
        _validate_disk(disk)
        if not disk.partitions:
            books.provide(disk.device)
        for partition in disk.partitions:
            books.provide(partition_device(disk.device, partition.number))
    for raid in layout.raid:
        where = f"raid {raid.array_name}"
        for device in raid.devices:
            books.use(where, device)
        _refuse_blanks(where, raid.create_options)
        books.provide(raid.array_name)
    for group in layout.volume_groups:
        for device in group.devices:
            books.use(f"volumegroup {group.name}", device)
    _validate_logical_volumes(layout, books)
    for filesystem in layout.filesystems:
        where = f"filesystem {filesystem.path or filesystem.device}"
        if filesystem.format not in _NAMELESS:
            books.use(where, filesystem.device)
        _refuse_blanks(where, filesystem.create_options)
        if filesystem.format not in _UNMOUNTED:
            _validate_path(where, filesystem.path)
    _refuse_twice(
        "filesystems", (item.path for item in layout.filesystems if item.path.startswith("/"))
    )


class _Devices:
    """Which devices exist so far, and by what each is used."""

    def __init__(self) -> None:
        self._users: dict[str, str] = {}

    def provide(self, device: str) -> None:
        if device in self._users:
            raise InvalidArgumentError(
                f"device {device} would be made twice", remedy="Give every device one name."
            )
        self._users[device] = ""

    def use(self, where: str, device: str) -> None:
        user = self._users.get(device)
        if user is None:
            raise InvalidArgumentError(
                f"{where}: device {device!r} is not provided by a disk, partition, raid "
                "or logical volume",
                remedy="Add it, or name one that the layout has; a disk with partitions is used "
                "through these, and those of NVMe disks are named with a p.",
            )
        if user:
            raise InvalidArgumentError(
                f"{where}: device {device!r} is used already by {user}",
                remedy="Use every device once.",
            )
        self._users[device] = where


def _validate_disk(disk: LayoutDisk) -> None:
    numbers = [partition.number for partition in disk.partitions]
    _refuse_twice(f"disk {disk.device}: partition numbers", map(str, numbers))
    if 0 in numbers:
        raise InvalidArgumentError(
            f"disk {disk.device}: there is no partition 0", remedy="Count partitions from 1."
        )
    for partition in disk.partitions[:-1]:
        if partition.size_mib == 0:
            raise InvalidArgumentError(
                f"disk {disk.device}: partition {partition.number} takes what is left (size 0), "
                "and others follow it",
                remedy="Give it a size, or make it the last one.",
            )


def _validate_logical_volumes(layout: FilesystemLayout, books: _Devices) -> None:
    groups = {group.name: group for group in layout.volume_groups}
    taking_all: set[str] = set()
    for volume in layout.logical_volumes:
        where = f"logicalvolume {volume.name}"
        group = groups.get(volume.volume_group)
        if group is None:
            raise InvalidArgumentError(
                f"{where}: there is no volumegroup {volume.volume_group!r}",
                remedy="Add the volume group, or name one that the layout has.",
            )
        if group.name in taking_all:
            raise InvalidArgumentError(
                f"{where}: a volume before it takes what is left of {group.name} (size 0)",
                remedy="Give that one a size, or make it the last one of its group.",
            )
        if volume.size_mib == 0:
            taking_all.add(group.name)
        least = _DEVICES_MIN[volume.lvm_type]
        if len(group.devices) < least:
            raise InvalidArgumentError(
                f"{where}: type {volume.lvm_type} needs at least {least} devices, "
                f"volumegroup {group.name} has {len(group.devices)}",
                remedy="Add devices to the volume group, or make the volume linear.",
            )
        books.provide(f"/dev/{group.name}/{volume.name}")


def _validate_path(where: str, path: str) -> None:
    if path and (not path.startswith("/") or ".." in path.split("/")):
        raise InvalidArgumentError(
            f"{where}: path {path!r} is not absolute", remedy="Begin with / and leave out '..'."
        )


def _refuse_blanks(where: str, options: Iterable[str]) -> None:
    for option in options:
        if not option or any(character.isspace() for character in option):
            raise InvalidArgumentError(
                f"{where}: createoptions: {option!r} is empty or has blanks in it",
                remedy="Write every word as an option of its own.",
            )


def _refuse_twice(where: str, names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise InvalidArgumentError(
                f"{where}: {name!r} is there {count} times", remedy="Name each once."
            )
