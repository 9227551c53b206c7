# SPDX-License-Identifier: Apache-2.0
"""Installed disks that no installer wrote, and the image that a cluster keeps."""

import json
from pathlib import Path
from uuid import UUID

import pytest

from metropolis.base.errors import DataLossError, FailedPreconditionError
from metropolis.formats import fat, gpt
from metropolis.lab.qemu import disks

ROOT_HASH = "00112233445566778899aabbccddeeff" * 2


@pytest.fixture
def image(tmp_path: Path) -> Path:
    place = tmp_path / "image"
    (place / "enrolment").mkdir(parents=True)
    (place / "image.json").write_text(json.dumps({"root_hash": ROOT_HASH}))
    (place / "system.img").write_bytes(b"system" * 10_000)
    (place / "kernel.efi").write_bytes(b"kernel" * 10_000)
    (place / "enrolment" / "PK.auth").write_bytes(b"pk")
    return place


def read_at(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def test_the_disk_boots_the_image_and_knows_its_parameters(tmp_path: Path, image: Path) -> None:
    disk = tmp_path / "disk.raw"
    disks.install(disk, image, {"esp/metropolis/parameters.pb": b"found a cluster"})
    table = gpt.decode(
        lambda offset, size: read_at(disk, offset, size), disk_bytes=disk.stat().st_size
    )
    esp, slot_a, slot_b, data = table.partitions
    assert slot_a.guid == UUID(ROOT_HASH[:32])
    assert slot_b.guid != slot_a.guid
    assert data.name == gpt.DATA_NAME
    files = fat.decode(lambda offset, size: read_at(disk, esp.first_lba * 512 + offset, size))
    assert files["metropolis/parameters.pb"] == b"found a cluster"
    kernel = (image / "kernel.efi").read_bytes()
    assert files["EFI/BOOT/BOOTX64.EFI"] == files["EFI/metropolis/boot-a.efi"] == kernel
    assert read_at(disk, slot_a.first_lba * 512, 60_000) == (image / "system.img").read_bytes()


def test_the_disk_is_sparse_ours_alone_and_unlike_every_other(tmp_path: Path, image: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for disk in (first, second):
        disks.install(disk, image, {})
    assert first.stat().st_size == disks.DISK_BYTES
    assert first.stat().st_blocks * 512 < 32 << 20
    assert first.stat().st_mode & 0o777 == 0o600
    assert read_at(first, 512, 512) != read_at(second, 512, 512)


def test_a_cluster_keeps_its_image(tmp_path: Path, image: Path) -> None:
    disks.keep_image(image, tmp_path / "kept")
    (image / "system.img").write_bytes(b"newer")
    assert (tmp_path / "kept" / "system.img").read_bytes() == b"system" * 10_000
    assert (tmp_path / "kept" / "enrolment" / "PK.auth").read_bytes() == b"pk"


def test_no_image_and_a_damaged_one_are_told_apart(tmp_path: Path, image: Path) -> None:
    with pytest.raises(FailedPreconditionError, match="no system image"):
        disks.keep_image(tmp_path / "nowhere", tmp_path / "kept")
    (image / "image.json").write_text("{}")
    with pytest.raises(DataLossError, match="damaged"):
        disks.install(tmp_path / "disk", image, {})
    assert not (tmp_path / "disk").exists()
