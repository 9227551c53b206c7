# SPDX-License-Identifier: Apache-2.0
"""Kernel modules: order, wishes, built-in ones and what hardware asks for."""

import json
import lzma
import struct
from pathlib import Path

import pytest

from metropolis.base.errors import NotFoundError
from metropolis.formats import module_list
from metropolis.image.kernel_modules import ModuleCollection, ModuleSelection

SIGNATURE = b"~Module signature appended~\n"


def module_file(*fields: str) -> bytes:
    """An ELF object with one section .modinfo, and a signature behind it as Debian's have."""
    information = b"".join(field.encode() + b"\0" for field in fields)
    names = b"\0.modinfo\0.shstrtab\0"
    at = 64
    table = at + len(information) + len(names)
    header = bytearray(64)
    header[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", header, 0x28, table)
    struct.pack_into("<HHH", header, 0x3A, 64, 3, 2)
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 1, 1, 0, 0, at, len(information), 0, 0, 0, 0)
    sections += struct.pack(
        "<IIQQQQIIQQ", 10, 3, 0, 0, at + len(information), len(names), 0, 0, 0, 0
    )
    return bytes(header) + information + names + sections + SIGNATURE


def collection(tmp_path: Path, modules: dict[str, list[str]], *, builtin: str = "") -> Path:
    place = tmp_path / "6.12"
    place.mkdir()
    for name, fields in modules.items():
        path = place / "kernel" / f"{name}.ko.xz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lzma.compress(module_file(*fields)))
    (place / "modules.builtin").write_text(builtin)
    return place


def test_dependencies_come_first_each_once_and_built_in_ones_not_at_all(tmp_path: Path) -> None:
    place = collection(
        tmp_path,
        {
            "fs/top": ["depends=left,right-side,inside"],
            "fs/left": ["depends=bottom"],
            "fs/right-side": ["depends=bottom"],
            "fs/bottom": ["depends="],
        },
        builtin="kernel/lib/inside.ko\n",
    )
    modules = ModuleCollection(place=place, unpacked=tmp_path / "unpacked")
    assert [each.name for each in modules.in_order("top")] == [
        "bottom",
        "left",
        "right_side",
        "top",
    ]
    assert modules.in_order("inside") == ()


def test_what_a_module_would_like_before_comes_before_if_this_kernel_has_it(tmp_path: Path) -> None:
    place = collection(
        tmp_path,
        {
            "top": ["softdep=pre: fast-hash unknown_thing post: later", "depends="],
            "fast_hash": [],
            "later": [],
            "generic_hash": [],
        },
    )
    modules = ModuleCollection(
        place=place, unpacked=tmp_path / "unpacked", before={"top": "generic_hash"}
    )
    assert [each.name for each in modules.in_order("top")] == ["fast_hash", "generic_hash", "top"]


def test_a_module_that_this_kernel_has_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no module nothing"):
        ModuleCollection(place=collection(tmp_path, {}), unpacked=tmp_path).in_order("nothing")


def test_modules_stay_signed(tmp_path: Path) -> None:
    place = collection(tmp_path, {"one": []})
    for _ in ("unpacked", "kept"):
        modules = ModuleCollection(place=place, unpacked=tmp_path / "unpacked")
        assert modules.module("one").content.endswith(SIGNATURE)
        (place / "kernel" / "one.ko.xz").write_bytes(b"not read a second time")


def test_the_list_tells_what_loads_always_and_what_hardware_asks_for(tmp_path: Path) -> None:
    place = collection(
        tmp_path,
        {
            "net/driver-x": [
                "alias=pci:v00001AF4d*",
                "alias=virtio:d1v*",
                "alias=acpi*:VMBUS:*",
                "alias=block-major-8-*",
                "depends=core",
            ],
            "net/core": ["alias=core-thing"],
            "fs/fs": ["alias=fs-fs"],
            "net/bond": ["alias=rtnl-link-bond"],
        },
    )
    selection = ModuleSelection(
        collection=ModuleCollection(place=place, unpacked=tmp_path / "unpacked"),
        always=["fs"],
        hardware=["driver-x"],
        on_demand=["bond"],
    )
    listed = module_list.decode(selection.index())
    assert listed.boot == ("fs",)
    assert listed.modules["driver_x"].files == ("core.ko", "driver_x.ko")
    assert listed.modules["fs"].aliases == listed.modules["bond"].aliases == ()
    assert module_list.matching(listed, ["virtio:d1v2", "pci:x"]) == ("driver_x",)
    assert module_list.matching(listed, ["acpi:VMBUS:MSFT1000:"]) == ("driver_x",)
    assert module_list.buses(listed) == ("acpi", "pci", "virtio")
    assert sorted(selection.tree().entries) == [
        f"usr/lib/modules/{name}.ko" for name in ("bond", "core", "driver_x", "fs")
    ]
    assert json.loads(selection.index())
