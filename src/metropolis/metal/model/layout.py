# SPDX-License-Identifier: Apache-2.0
"""Filesystem layouts: how the disks of a machine are cut, joined, formatted and mounted.

What a client states (`layout_request`) may leave out or null what is stored as empty here.
"""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

from metropolis.metal.store import Kind, Stored

FilesystemFormat: TypeAlias = Literal["vfat", "ext3", "ext4", "swap", "tmpfs", "none"]
GptType: TypeAlias = Literal["", "ef00", "8300", "8e00", "fd00"]
RaidLevel: TypeAlias = Literal["0", "1"]
LvmType: TypeAlias = Literal["linear", "striped", "raid1"]
SizeMiB: TypeAlias = Annotated[int, Meta(ge=0, le=2**62)]  # times 2^20 it is judged in bytes


class Filesystem(Struct, frozen=True, kw_only=True):
    """A filesystem on a device.

    Attributes:
        path: Where it is mounted; empty when it is not.
    """

    device: str
    format: FilesystemFormat
    path: str = ""
    label: str = ""
    mount_options: tuple[str, ...] = field(name="mountoptions", default=())
    create_options: tuple[str, ...] = field(name="createoptions", default=())


class DiskPartition(Struct, frozen=True, kw_only=True):
    """A partition of a disk.

    Attributes:
        size_mib: 0 takes what is left.
    """

    number: Annotated[int, Meta(ge=0, le=255)]
    size_mib: SizeMiB = field(name="size")
    label: str = ""
    gpt_type: GptType = field(name="gpttype", default="")


class LayoutDisk(Struct, frozen=True, kw_only=True):
    """A disk and how it is cut."""

    device: str
    wipe_on_reinstall: bool = field(name="wipeonreinstall", default=False)
    partitions: tuple[DiskPartition, ...] = ()


class Raid(Struct, frozen=True, kw_only=True):
    """Several devices as one."""

    array_name: str = field(name="arrayname")
    level: RaidLevel
    devices: tuple[str, ...] = ()
    create_options: tuple[str, ...] = field(name="createoptions", default=())
    spares: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0


class VolumeGroup(Struct, frozen=True, kw_only=True):
    """Devices that logical volumes are cut from."""

    name: str
    devices: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class LogicalVolume(Struct, frozen=True, kw_only=True):
    """A logical volume; its device is `/dev/<volume group>/<name>`.

    Attributes:
        size_mib: 0 takes what is left.
    """

    name: str
    volume_group: str = field(name="volumegroup")
    size_mib: SizeMiB = field(name="size")
    lvm_type: LvmType = field(name="lvmtype", default="linear")


class LayoutConstraints(Struct, frozen=True, kw_only=True):
    """What a layout is for: these sizes, with these images.

    Attributes:
        images: Version constraint by operating system.
    """

    sizes: tuple[str, ...] = ()
    images: dict[str, str] = field(default_factory=dict[str, str])


class FilesystemLayout(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A layout as it is stored."""

    name: str = ""
    description: str = ""
    filesystems: tuple[Filesystem, ...] = ()
    disks: tuple[LayoutDisk, ...] = ()
    raid: tuple[Raid, ...] = ()
    volume_groups: tuple[VolumeGroup, ...] = field(name="volumegroups", default=())
    logical_volumes: tuple[LogicalVolume, ...] = field(name="logicalvolumes", default=())
    constraints: LayoutConstraints = field(default_factory=LayoutConstraints)


LAYOUTS = Kind(name="filesystem-layout", type=FilesystemLayout)


class FilesystemLayoutResponse(Struct, frozen=True, kw_only=True):
    """A layout on the wire."""

    id: str
    name: str
    description: str
    filesystems: tuple[Filesystem, ...]
    disks: tuple[LayoutDisk, ...]
    raid: tuple[Raid, ...]
    volume_groups: tuple[VolumeGroup, ...] = field(name="volumegroups")
    logical_volumes: tuple[LogicalVolume, ...] = field(name="logicalvolumes")
    constraints: LayoutConstraints

    @classmethod
    def of(cls, layout: Stored[FilesystemLayout]) -> "FilesystemLayoutResponse":
        """Show a stored layout."""
        value = layout.value
        return cls(
            id=layout.id,
            name=value.name,
            description=value.description,
            filesystems=value.filesystems,
            disks=value.disks,
            raid=value.raid,
            volume_groups=value.volume_groups,
            logical_volumes=value.logical_volumes,
            constraints=value.constraints,
        )
