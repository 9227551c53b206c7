# SPDX-License-Identifier: Apache-2.0
"""Which devices an install medium may overwrite."""

from dataclasses import replace
from pathlib import Path

import pytest

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.ctl.medium_target import DeviceFacts, check_device, describe, new_file
from metropolis.host.linux.block_devices import Disk

DISK = Disk(
    name="sdx",
    size_bytes=8 * 10**9,
    sector_bytes=512,
    is_removable=True,
    is_read_only=False,
    model="Stick",
    serial="S-1",
)
STICK = DeviceFacts(path=Path("/dev/sdx"), disk=DISK)


def test_a_removable_disk_that_nobody_uses_may_be_overwritten() -> None:
    assert check_device(STICK, force=False) == DISK


@pytest.mark.parametrize(
    ("facts", "problem", "remedy"),
    [
        (
            replace(STICK, used_by=("sdx1 is mounted at /media",)),
            "/dev/sdx is in use: sdx1 is mounted at /media",
            "Unmount it first; --force overwrites it all the same.",
        ),
        (
            replace(STICK, disk=replace(DISK, is_removable=False), partitions=("C: 100 MiB",)),
            (
                "/dev/sdx (8.0 GB, Stick, serial S-1; it holds C: 100 MiB) is not removable: it "
                "may be a disk of this computer"
            ),
            "Name a stick, or add --force if it is the right disk.",
        ),
    ],
)
def test_a_disk_in_use_or_built_in_needs_force(
    facts: DeviceFacts, problem: str, remedy: str
) -> None:
    with pytest.raises(FailedPreconditionError) as caught:
        check_device(facts, force=False)
    assert (str(caught.value), caught.value.remedy) == (problem, remedy)
    assert check_device(facts, force=True) == facts.disk


def test_nothing_forces_a_partition_or_a_read_only_disk() -> None:
    with pytest.raises(InvalidArgumentError, match="/dev/sdx is no whole disk"):
        check_device(replace(STICK, disk=None), force=True)
    with pytest.raises(FailedPreconditionError, match="/dev/sdx is read-only"):
        check_device(replace(STICK, disk=replace(DISK, is_read_only=True)), force=True)


def test_what_is_erased_is_named() -> None:
    assert describe(replace(STICK, partitions=("EFI 100 MiB", "root 1 MiB"))) == (
        "8.0 GB, Stick, serial S-1; it holds EFI 100 MiB, root 1 MiB"
    )


def test_a_file_appears_when_it_is_complete_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "stick.img"
    path.write_bytes(b"an older one")
    with new_file(path, 1 << 20) as disk:
        disk.pwrite(b"new", 0)
        assert path.read_bytes() == b"an older one"
    assert path.read_bytes() == b"new" + bytes((1 << 20) - 3)
    with pytest.raises(KeyboardInterrupt), new_file(path, 5):
        raise KeyboardInterrupt
    assert path.stat().st_size == 1 << 20
    assert [each.name for each in tmp_path.iterdir()] == ["stick.img"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(FailedPreconditionError, match=r"cannot write .*stick\.img: No such file"),
        new_file(tmp_path / "missing" / "stick.img", 5),
    ):
        pass
