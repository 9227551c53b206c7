# SPDX-License-Identifier: Apache-2.0
"""Filesystem layouts: whether they can be built, for what they are, whether they fit."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.metal.model.hardware import Disk, Hardware
from metropolis.metal.model.layout import FilesystemLayout, LayoutConstraints
from metropolis.metal.model.layout_request import FilesystemLayoutCreateRequest
from metropolis.metal.rules.layout_devices import partition_device
from metropolis.metal.rules.layouts import (
    check_hardware,
    is_for,
    is_reinstallable,
    refuse_collision,
    validate,
)

GOOD: dict[str, Any] = {
    "id": "default",
    "constraints": {"sizes": ["c1"], "images": {"ubuntu": "*"}},
    "disks": [
        {
            "device": "/dev/sda",
            "wipeonreinstall": True,
            "partitions": [
                {"number": 1, "label": "efi", "size": 500, "gpttype": "ef00"},
                {"number": 2, "label": "root", "size": 5000, "gpttype": "8300"},
                {"number": 3, "size": 0, "gpttype": "8e00"},
            ],
        },
        {"device": "/dev/nvme0n1", "partitions": [{"number": 1, "size": 0, "gpttype": "fd00"}]},
        {"device": "/dev/nvme1n1", "partitions": [{"number": 1, "size": 0, "gpttype": "fd00"}]},
        {"device": "/dev/sdb"},
    ],
    "raid": [
        {
            "arrayname": "/dev/md1",
            "level": "1",
            "devices": ["/dev/nvme0n1p1", "/dev/nvme1n1p1"],
            "createoptions": ["--metadata=1.0"],
            "spares": 0,
        }
    ],
    "volumegroups": [{"name": "csi", "devices": ["/dev/sda3", "/dev/sdb"], "tags": ["lvm"]}],
    "logicalvolumes": [
        {"name": "logs", "volumegroup": "csi", "size": 100, "lvmtype": "raid1"},
        {"name": "rest", "volumegroup": "csi", "size": 0, "lvmtype": "linear"},
    ],
    "filesystems": [
        {"path": "/boot/efi", "device": "/dev/sda1", "format": "vfat", "createoptions": ["-F32"]},
        {"path": "/", "device": "/dev/sda2", "format": "ext4"},
        {"path": "/tmp", "device": "tmpfs", "format": "tmpfs", "mountoptions": ["size=512M"]},
        {"path": "/srv", "device": "/dev/md1", "format": "ext4"},
        {"path": "/var/log", "device": "/dev/csi/logs", "format": "ext4"},
        {"device": "/dev/csi/rest", "format": "none"},
    ],
}


def layout(change: Callable[[Any], None] | None = None) -> FilesystemLayout:
    stated = msgspec.json.decode(msgspec.json.encode(GOOD))
    if change is not None:
        change(stated)
    return msgspec.convert(stated, FilesystemLayoutCreateRequest).stored()


def meant(images: dict[str, str], *sizes: str) -> FilesystemLayout:
    return FilesystemLayout(constraints=LayoutConstraints(sizes=sizes, images=images))


def hardware(**disks_gib: int) -> Hardware:
    return Hardware(
        disks=tuple(Disk(name=name, size_bytes=size * 2**30) for name, size in disks_gib.items())
    )


def test_a_layout_of_everything_can_be_built() -> None:
    validate(layout())


def set_at(*path: Any) -> Callable[[Any], None]:
    """Change one place of the good layout: keys, then the value."""

    def change(stated: Any) -> None:
        *way, last, value = path
        for key in way:
            stated = stated[key]
        stated[last] = value

    return change


def append(*path: Any) -> Callable[[Any], None]:
    """Add to one list of the good layout."""

    def change(stated: Any) -> None:
        *way, value = path
        for key in way:
            stated = stated[key]
        stated.append(value)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_at("filesystems", 1, "device", "/dev/sda9"), "is not provided"),
        (set_at("filesystems", 1, "device", "/dev/sda"), "is not provided"),
        (set_at("filesystems", 1, "device", "/dev/sda1"), "used already by filesystem"),
        (set_at("filesystems", 1, "path", "/boot/efi"), "'/boot/efi' is there 2 times"),
        (set_at("filesystems", 1, "path", "srv"), "not absolute"),
        (set_at("filesystems", 1, "path", "/srv/../etc"), "not absolute"),
        (set_at("filesystems", 0, "createoptions", ["-F 32"]), "blanks"),
        (set_at("raid", 0, "createoptions", ["a\tb"]), "blanks"),
        (set_at("raid", 0, "devices", ["/dev/nvme0n11"]), "is not provided"),
        (set_at("raid", 0, "arrayname", "/dev/sda1"), "made twice"),
        (set_at("volumegroups", 0, "devices", ["/dev/sda3", "/dev/sdc"]), "is not provided"),
        (set_at("volumegroups", 0, "devices", ["/dev/sda3"]), "needs at least 2 devices"),
        (set_at("logicalvolumes", 0, "volumegroup", "vg9"), "no volumegroup 'vg9'"),
        (set_at("logicalvolumes", 0, "size", 0), "takes what is left of csi"),
        (set_at("logicalvolumes", 0, "name", "rest"), "made twice"),
        (set_at("disks", 0, "partitions", 1, "number", 1), "'1' is there 2 times"),
        (set_at("disks", 0, "partitions", 0, "number", 0), "no partition 0"),
        (set_at("disks", 0, "partitions", 1, "size", 0), "takes what is left"),
        (append("disks", {"device": "/dev/sdb"}), "'/dev/sdb' is there 2 times"),
        (append("volumegroups", {"name": "csi"}), "'csi' is there 2 times"),
        (set_at("constraints", "sizes", ["c*"]), "patterns"),
        (set_at("constraints", "sizes", ["c1", "c1"]), "twice"),
        (set_at("constraints", "images", {"*": "*"}), "not allowed"),
        (set_at("constraints", "images", {"ubuntu": ">=2"}), "not understood"),
    ],
)
def test_a_layout_that_cannot_be_built_is_refused(
    change: Callable[[Any], None], message: str
) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        validate(layout(change))
    assert message in f"{refused.value} {refused.value.remedy}"


@pytest.mark.parametrize(
    ("field", "value"),
    [("format", "ntfs"), ("device", None), ("mount", "x")],
)
def test_what_is_no_layout_at_all_does_not_decode(field: str, value: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        layout(set_at("filesystems", 1, field, value))


def test_what_is_optional_may_be_null() -> None:
    def change(stated: Any) -> None:
        stated.update(raid=None, volumegroups=None, logicalvolumes=None, name=None)
        stated["filesystems"] = [
            {"device": "/dev/sda2", "format": "ext4", "path": None, "mountoptions": None}
        ]
        stated["disks"][1]["partitions"] = None

    validate(layout(change))


@pytest.mark.parametrize(
    ("kind", "devices", "enough"),
    [
        ("linear", 1, True), ("linear", 0, False), ("striped", 2, True), ("striped", 1, False),
        ("raid1", 2, True), ("raid1", 1, False),
    ],
)  # fmt: skip
def test_a_volume_needs_as_many_devices_as_its_type(kind: str, devices: int, enough: bool) -> None:
    stated = {
        "id": "x",
        "constraints": {},
        "disks": [{"device": f"/dev/sd{letter}"} for letter in "ab"],
        "volumegroups": [{"name": "g", "devices": ["/dev/sda", "/dev/sdb"][:devices]}],
        "logicalvolumes": [{"name": "v", "volumegroup": "g", "size": 1, "lvmtype": kind}],
    }
    made = msgspec.convert(stated, FilesystemLayoutCreateRequest).stored()
    if enough:
        validate(made)
    else:
        with pytest.raises(InvalidArgumentError, match="needs at least"):
            validate(made)


def test_partitions_are_named_as_the_kernel_names_them() -> None:
    assert partition_device("/dev/sda", 1) == "/dev/sda1"
    assert partition_device("/dev/nvme0n1", 2) == "/dev/nvme0n1p2"
    assert partition_device("/dev/mmcblk0", 3) == "/dev/mmcblk0p3"


def test_a_layout_is_for_its_sizes_with_its_images() -> None:
    both = meant({"ubuntu": ">= 24.04", "debian": "*"}, "c1", "c2")
    assert is_for(both, "c2", "ubuntu-24.04.20250101")
    assert is_for(both, "c1", "debian-12.0.20250101")
    assert not is_for(both, "c1", "ubuntu-22.04.20250101")
    assert not is_for(both, "c1", "centos-7.0.20250101")
    assert not is_for(both, "c3", "ubuntu-24.04.20250101")


@pytest.mark.parametrize(
    ("other", "collides"),
    [
        (meant({"ubuntu": ">= 24.04"}, "c1"), True),
        (meant({"ubuntu": "< 24.04"}, "c1"), False),
        (meant({"debian": "*"}, "c1"), False),
        (meant({"ubuntu": "*"}, "c2"), False),
        (meant({"debian": "*", "ubuntu": "*"}, "c2", "c1"), True),
        (FilesystemLayout(), False),
    ],
)
def test_two_layouts_collide_when_a_size_and_a_version_could_get_both(
    other: FilesystemLayout, collides: bool
) -> None:
    new = meant({"ubuntu": "~ 24.04"}, "c1")
    if collides:
        with pytest.raises(InvalidArgumentError, match="'new' collides with 'other'"):
            refuse_collision("new", new, [("other", other)])
    else:
        refuse_collision("new", new, [("other", other)])
    refuse_collision("other", new, [("other", other)])


def test_a_layout_is_reinstallable_when_a_disk_may_be_wiped() -> None:
    assert is_reinstallable(layout())
    assert not is_reinstallable(layout(set_at("disks", 0, "wipeonreinstall", False)))


def test_a_machine_with_the_disks_fits() -> None:
    check_hardware(
        layout(), hardware(**{"/dev/sda": 100, "nvme0n1": 1, "/dev/nvme1n1": 1, "/dev/sdb": 1})
    )


def test_a_machine_without_a_disk_is_refused() -> None:
    with pytest.raises(FailedPreconditionError, match="no disk /dev/sdb"):
        check_hardware(layout(), hardware(sda=100, nvme0n1=1, nvme1n1=1))


def test_a_disk_that_is_just_large_enough_fits() -> None:
    exact = Hardware(disks=(Disk(name="/dev/sda", size_bytes=5500 * 2**20),))
    sata = msgspec.structs.replace(layout(), disks=layout().disks[:1])
    check_hardware(sata, exact)
    smaller = Hardware(disks=(Disk(name="/dev/sda", size_bytes=5500 * 2**20 - 1),))
    with pytest.raises(FailedPreconditionError):
        check_hardware(sata, smaller)


def test_a_machine_with_a_smaller_disk_is_refused() -> None:
    with pytest.raises(FailedPreconditionError, match=r"/dev/sda has 4096 MiB.* needs 5500"):
        check_hardware(layout(), hardware(sda=4, nvme0n1=1, nvme1n1=1, sdb=1))
