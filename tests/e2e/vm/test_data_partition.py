# SPDX-License-Identifier: Apache-2.0
"""The data partition on a real kernel: cut off, checked, damaged, and opened by the operator."""

import subprocess
from pathlib import Path

import pytest

from kits.experiment_vm import ExperimentVm
from metropolis.formats.backup.sealing import public_key_of
from metropolis.formats.disk_token import open_token

EXPERIMENT = Path(__file__).with_name("partition_experiment.py")
RECOVERY_KEY = bytes(range(64, 96))
DISK_BYTES = 1200 << 20


@pytest.mark.timeout(400)
def test_the_file_system_reads_no_sector_that_was_never_written_and_damage_is_named(
    image: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "data.raw"
    with disk.open("wb") as file:
        file.truncate(DISK_BYTES)
    machine = ExperimentVm(image, tmp_path)
    try:
        filled = machine.run(experiment("fill"), [disk], timeout_s=180).printed
        assert "uses 640 MiB of 11" in filled, filled
        assert "again: ''" in filled
        assert "before the cut: unreadable sectors: none" in filled, filled

        recovered = open_token(exported_token(disk), RECOVERY_KEY)
        assert opens(disk, recovered)
        assert not opens(disk, bytes(32))

        found = machine.run(experiment("find"), [disk], timeout_s=180).printed
        assert "rw,nosuid,nodev,noexec" in found, found
        assert "prjquota" in found
        assert "xfs_repair -n: 0" in found
        assert "xfs_repair: 0" in found
        assert "after the repair: unreadable sectors: none" in found
        header = "the header of the data partition /dev/vdb is damaged. Restore its header"
        slot = "the key slot of the data partition /dev/vdb is damaged. Restore its header"
        stranger = "the data partition /dev/vdb is of another node or of an earlier installation"
        assert f"another key: permission-denied: {stranger}" in found
        assert "first header: opened" in found
        assert f"both headers: data-loss: {header}" in found
        assert f"key slot: data-loss: {slot}" in found
        assert "tampered: 0 wrong, some refused" in found
        assert "tampered: noticed True" in found
        assert f"wiped: data-loss: {slot}" in found
        assert not opens(disk, recovered)
    finally:
        disk.unlink()


def experiment(phase: str) -> str:
    public_key = public_key_of(RECOVERY_KEY).hex()
    settings = {"PHASE": phase, "RECOVERY_PUBLIC_KEY": public_key}
    return f"import os\nos.environ.update({settings!r})\n{EXPERIMENT.read_text()}"


def exported_token(disk: Path) -> bytes:
    return subprocess.run(
        ["cryptsetup", "token", "export", "--token-id", "0", str(disk)],
        capture_output=True,
        check=True,
    ).stdout


def opens(disk: Path, key: bytes) -> bool:
    argv = ["cryptsetup", "open", "--test-passphrase", "--key-file", "-", str(disk)]
    return subprocess.run(argv, input=key, capture_output=True, check=False).returncode == 0
