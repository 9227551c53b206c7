# SPDX-License-Identifier: Apache-2.0
"""Filesystem layouts as clients state them: what may be left out may also be null."""

from typing import Annotated

from msgspec import Meta, Struct, field

from metropolis.metal.model.layout import (
    DiskPartition,
    Filesystem,
    FilesystemFormat,
    FilesystemLayout,
    GptType,
    LayoutConstraints,
    LayoutDisk,
    LogicalVolume,
    LvmType,
    Raid,
    RaidLevel,
    SizeMiB,
    VolumeGroup,
)


class FilesystemRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A filesystem on a device."""

    device: str
    format: FilesystemFormat
    path: str | None = None
    label: str | None = None
    mount_options: tuple[str, ...] | None = field(name="mountoptions", default=None)
    create_options: tuple[str, ...] | None = field(name="createoptions", default=None)

    def stored(self) -> Filesystem:
        """Fill in what was left out."""
        return Filesystem(
            device=self.device,
            format=self.format,
            path=self.path or "",
            label=self.label or "",
            mount_options=self.mount_options or (),
            create_options=self.create_options or (),
        )


class DiskPartitionRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A partition of a disk."""

    number: Annotated[int, Meta(ge=0, le=255)]
    size_mib: SizeMiB = field(name="size")
    label: str | None = None
    gpt_type: GptType | None = field(name="gpttype", default=None)

    def stored(self) -> DiskPartition:
        """Fill in what was left out."""
        return DiskPartition(
            number=self.number,
            size_mib=self.size_mib,
            label=self.label or "",
            gpt_type=self.gpt_type or "",
        )


class LayoutDiskRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A disk and how it is cut."""

    device: str
    wipe_on_reinstall: bool | None = field(name="wipeonreinstall", default=None)
    partitions: tuple[DiskPartitionRequest, ...] | None = None

    def stored(self) -> LayoutDisk:
        """Fill in what was left out."""
        return LayoutDisk(
            device=self.device,
            wipe_on_reinstall=bool(self.wipe_on_reinstall),
            partitions=tuple(partition.stored() for partition in self.partitions or ()),
        )


class RaidRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Several devices as one."""

    array_name: str = field(name="arrayname")
    level: RaidLevel
    devices: tuple[str, ...] | None = None
    create_options: tuple[str, ...] | None = field(name="createoptions", default=None)
    spares: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None

    def stored(self) -> Raid:
        """Fill in what was left out."""
        return Raid(
            array_name=self.array_name,
            level=self.level,
            devices=self.devices or (),
            create_options=self.create_options or (),
            spares=self.spares or 0,
        )


class VolumeGroupRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Devices that logical volumes are cut from."""

    name: str
    devices: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None

    def stored(self) -> VolumeGroup:
        """Fill in what was left out."""
        return VolumeGroup(name=self.name, devices=self.devices or (), tags=self.tags or ())


class LogicalVolumeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A logical volume."""

    name: str
    volume_group: str = field(name="volumegroup")
    size_mib: SizeMiB = field(name="size")
    lvm_type: LvmType | None = field(name="lvmtype", default=None)

    def stored(self) -> LogicalVolume:
        """Fill in what was left out."""
        return LogicalVolume(
            name=self.name,
            volume_group=self.volume_group,
            size_mib=self.size_mib,
            lvm_type=self.lvm_type or "linear",
        )


class LayoutConstraintsRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a layout is for."""

    sizes: tuple[str, ...] | None = None
    images: dict[str, str] | None = None

    def stored(self) -> LayoutConstraints:
        """Fill in what was left out."""
        return LayoutConstraints(sizes=self.sizes or (), images=self.images or {})


class FilesystemLayoutCreateRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `createFilesystemLayout` and `updateFilesystemLayout` take: a layout as a whole."""

    id: str
    constraints: LayoutConstraintsRequest
    name: str | None = None
    description: str | None = None
    filesystems: tuple[FilesystemRequest, ...] | None = None
    disks: tuple[LayoutDiskRequest, ...] | None = None
    raid: tuple[RaidRequest, ...] | None = None
    volume_groups: tuple[VolumeGroupRequest, ...] | None = field(name="volumegroups", default=None)
    logical_volumes: tuple[LogicalVolumeRequest, ...] | None = field(
        name="logicalvolumes", default=None
    )

    def stored(self) -> FilesystemLayout:
        """Fill in what was left out."""
        return FilesystemLayout(
            name=self.name or "",
            description=self.description or "",
            filesystems=tuple(item.stored() for item in self.filesystems or ()),
            disks=tuple(item.stored() for item in self.disks or ()),
            raid=tuple(item.stored() for item in self.raid or ()),
            volume_groups=tuple(item.stored() for item in self.volume_groups or ()),
            logical_volumes=tuple(item.stored() for item in self.logical_volumes or ()),
            constraints=self.constraints.stored(),
        )


class FilesystemLayoutMatchRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `matchFilesystemLayout` takes: ids of both."""

    machine: str
    layout: str = field(name="filesystemlayout")


class FilesystemLayoutTryRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `tryFilesystemLayout` takes: ids of both."""

    size: str
    image: str
