# SPDX-License-Identifier: Apache-2.0
"""Installed disks, made from an image without an installer.

They are what the installer would write, by the same plan, in a sparse file: an empty disk of 4 GiB
takes what the image takes.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from uuid import UUID

from metropolis.base.errors import DataLossError, FailedPreconditionError
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.node.installation.disk import DiskGuids, SystemPayload, plan_disk, write_disk

DISK_BYTES: Final = 4 << 30
RECORD: Final = "image.json"
SYSTEM: Final = "system.img"
KERNEL: Final = "kernel.efi"
ENROLMENT: Final = "enrolment"

_ESP: Final = "esp"  # where a node's storage has it
_CHUNK_BYTES: Final = 4 << 20
_BOOT_A: Final = "EFI/metropolis/boot-a.efi"
_FALLBACK: Final = "EFI/BOOT/BOOTX64.EFI"


class FileDisk:
    """A new file as a disk: what was never written is zeros already."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def pread(self, size: int, offset: int) -> bytes:
        """Read exactly `size` bytes."""
        return os.pread(self._descriptor, size, offset)

    def pwrite(self, data: bytes, offset: int) -> None:
        """Write all of `data`."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            view, offset = view[written:], offset + written

    def zero(self, offset: int, size: int) -> None:
        """Nothing to do."""

    def flush(self) -> None:
        """Nothing to do: a computer that crashes here has no machines to lose."""


def keep_image(image: Path, kept: Path) -> None:
    """Copy of an image what disks and firmware are made of, so that a new build changes nothing.

    Raises:
        FailedPreconditionError: there is no finished image.
    """
    if not (image / RECORD).is_file():
        raise FailedPreconditionError(
            f"there is no system image in {image}", remedy="Run `metropolis image build`."
        )
    unfinished = kept.with_name(f"{kept.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for name in (RECORD, SYSTEM, KERNEL):
        shutil.copyfile(image / name, unfinished / name)
    shutil.copytree(image / ENROLMENT, unfinished / ENROLMENT)
    unfinished.rename(kept)


def image_record(image: Path) -> Mapping[str, object]:
    """What the builder wrote about an image.

    Raises:
        DataLossError: it is not what a builder writes.
    """
    try:
        record = json.loads((image / RECORD).read_bytes())
        UUID(record["root_hash"][:32])
    except (OSError, ValueError, KeyError, TypeError) as cause:
        raise DataLossError(
            f"{image / RECORD} is damaged", remedy="Run `metropolis image build` again."
        ) from cause
    else:
        known: Mapping[str, object] = record
        return known


def install(
    disk: Path, image: Path, files: Mapping[str, bytes], *, disk_bytes: int = DISK_BYTES
) -> None:
    """Write an installed disk; it appears when it is complete, readable by us alone.

    Args:
        files: What else its EFI system partition holds, by path in a node's storage: parameters.
    """
    kernel = (image / KERNEL).read_bytes()
    inside = {str(Path(path).relative_to(_ESP)): data for path, data in files.items()}
    esp_files = {_BOOT_A: kernel, _FALLBACK: kernel, **inside}
    root_hash = str(image_record(image)["root_hash"])
    system = image / SYSTEM
    guids = DiskGuids.derived(UUID(bytes=LinuxEntropy().token_bytes(16)), disk.name)
    unfinished = disk.with_name(f"{disk.name}.new")
    unfinished.unlink(missing_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(unfinished, flags, 0o600)
    try:
        os.truncate(descriptor, disk_bytes)
        write_disk(
            FileDisk(descriptor),
            plan_disk(disk_bytes, guids=guids),
            system=SystemPayload(
                chunks=_chunks(system), size_bytes=system.stat().st_size, guid=UUID(root_hash[:32])
            ),
            esp_files=esp_files,
        )
    finally:
        os.close(descriptor)
    unfinished.rename(disk)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
