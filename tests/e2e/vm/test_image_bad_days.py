# SPDX-License-Identifier: Apache-2.0
"""A system image that is not what its builder signed: who notices, and what the console says."""

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kits.raw_disk import RawDisk
from kits.signer import signer
from metropolis.formats import authenticode, gpt
from metropolis.lab.qemu.arguments import DISK, Hardware
from metropolis.lab.qemu.disks import install
from metropolis.lab.qemu.guest import Guest

FALLBACK = "EFI/BOOT/BOOTX64.EFI"
KERNEL = "kernel.efi"
BLOCK = 4096
TIMEOUT_S = 90.0
NOTICED = (r"block \d+ is corrupted", "Kernel panic - not syncing: dm-verity device corrupted")
Machine = tuple[Path, Hardware]


def made_of(image: Path, copy: Path, change: Callable[[bytes], bytes]) -> Path:
    """An image with another kernel file; the rest of it as it was."""
    copy.mkdir()
    for path in image.iterdir():
        if path.name != KERNEL:
            (copy / path.name).symlink_to(path)
    (copy / KERNEL).write_bytes(change((image / KERNEL).read_bytes()))
    return copy


def said(machine: Machine, *patterns: str) -> str:
    """Switch the machine on until its console has said all of this, in this order."""
    directory, hardware = machine

    async def scenario() -> str:
        # One start is enough: the machine is not to try for ever.
        async with Guest(directory, replace(hardware, cpus=2)) as guest:
            for pattern in patterns:
                await guest.wait_for(pattern, timeout_s=TIMEOUT_S)
            return guest.text()

    return asyncio.run(scenario())


def unsigned(kernel: bytes) -> bytes:
    return authenticode.strip(kernel)


def signed_by_a_stranger(kernel: bytes) -> bytes:
    return authenticode.attach(
        authenticode.strip(kernel),
        certificate_der=signer("stranger").certificate_der,
        sign=signer("stranger").sign,
        signing_time=datetime(2020, 1, 1, tzinfo=UTC),
    )


def with_another_command_line(kernel: bytes) -> bytes:
    return kernel.replace(b"quiet panic=5", b"debug panic=5")


@pytest.mark.parametrize("change", [unsigned, signed_by_a_stranger, with_another_command_line])
def test_the_firmware_starts_nothing_that_the_builder_did_not_sign(
    image: Path, tmp_path: Path, machine: Machine, change: Callable[[bytes], bytes]
) -> None:
    changed = made_of(image, tmp_path / "changed", change)
    assert (changed / KERNEL).read_bytes() != (image / KERNEL).read_bytes()
    install(machine[0] / DISK, changed, {})
    text = said(machine, "Access Denied")
    assert "Linux version" not in text
    assert "process 1" not in text


def test_the_firmware_starts_no_kernel_file_with_a_flipped_byte(
    image: Path, machine: Machine
) -> None:
    install(machine[0] / DISK, image, {})
    RawDisk(machine[0] / DISK).flip_in_file(FALLBACK)
    assert "Linux version" not in said(machine, "Access Denied")


def blocks(image: Path) -> int:
    return int(json.loads((image / "image.json").read_bytes())["data_blocks"])


def begin_of_the_file_system(_image: Path) -> int:
    return 1024  # EROFS' superblock


def top_of_the_hash_tree(image: Path) -> int:
    return blocks(image) * BLOCK


@pytest.mark.parametrize("place", [begin_of_the_file_system, top_of_the_hash_tree])
def test_a_flipped_byte_in_the_system_partition_stops_the_machine(
    image: Path, machine: Machine, place: Callable[[Path], int]
) -> None:
    install(machine[0] / DISK, image, {})
    disk = RawDisk(machine[0] / DISK)
    disk.flip(disk.begins[gpt.SYSTEM_A_NAME] + place(image))
    text = said(
        machine, r"block \d+ is corrupted", "Kernel panic - not syncing: dm-verity device corrupted"
    )
    assert "boot: " not in text  # the line that ends a boot


def test_a_file_system_whose_every_block_was_moved_is_noticed_where_it_is_read(
    image: Path, machine: Machine
) -> None:
    """Swapped with its neighbour, each block is one that the builder signed, elsewhere."""
    install(machine[0] / DISK, image, {})
    path = machine[0] / DISK
    begin = RawDisk(path).begins[gpt.SYSTEM_A_NAME]
    size = blocks(image) * BLOCK
    descriptor = os.open(path, os.O_RDWR)
    try:
        middle = begin + size // 2 // BLOCK * BLOCK
        content = os.pread(descriptor, size // 4, middle)
        os.pwrite(descriptor, content[BLOCK:] + content[:BLOCK], middle)
    finally:
        os.close(descriptor)
    said(
        machine, r"block \d+ is corrupted", "Kernel panic - not syncing: dm-verity device corrupted"
    )
