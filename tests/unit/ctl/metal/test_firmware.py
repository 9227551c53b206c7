# SPDX-License-Identifier: Apache-2.0
"""Firmware goes through the API into a real S3 store and back."""

import json
from pathlib import Path

import pytest

from kits.metal import KEYS, replica
from metropolis.metal.access.role import Role
from metropolis.metal.seed import seed
from metropolis.metal.settings import Settings
from unit.ctl.metal.conftest import Metalctl
from unit.metal.inventory.s3_server import s3_server

MACHINE = "00000000-0000-0000-0000-000100000001"
PLACE = ("--vendor", "Supermicro", "--board", "X12STH-SYS", "--revision", "2.5")


def test_firmware_is_uploaded_listed_installed_and_deleted(
    metalctl: Metalctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "bios.bin"
    file.write_bytes(b"\r\n--\x00firmware" * 200_000)  # more than one block
    with (
        s3_server() as firmware,
        replica(settings=Settings(check_urls=False, firmware=firmware)) as metal,
    ):
        metal.run(seed)
        monkeypatch.setenv("METALCTL_API_URL", metal.url)
        monkeypatch.setenv("METALCTL_HMAC", KEYS[Role.ADMIN].decode())
        done = metalctl("firmware", "upload", "bios", str(file), *PLACE)
        assert (done.status, done.err) == (0, "Uploaded bios 2.5 for Supermicro X12STH-SYS.\n")
        listed = metalctl("firmware", "list", "--machineid", MACHINE, "--kind", "bios")
        assert listed.out.splitlines()[1].split() == ["bios", "supermicro", "X12STH-SYS", "2.5"]
        assert json.loads(metalctl("firmware", "list", "-o", "json").out)["revisions"]
        flags = ("--revision", "2.5", "--yes-i-really-mean-it")
        update = metalctl("machine", "update-firmware", "bios", MACHINE, *flags)
        assert (update.status, MACHINE in update.out) == (0, True)
        gone = metalctl("firmware", "delete", "--kind", "bios", *PLACE)
        assert gone.status == 0, gone.err
        assert len(metalctl("firmware", "list").out.splitlines()) == 1
        missing = metalctl("firmware", "upload", "bios", str(tmp_path / "nope"), *PLACE)
        assert missing.err.startswith("error: there is no file")
        monkeypatch.setenv("METALCTL_HMAC", KEYS[Role.VIEW].decode())
        refused = metalctl(
            *("firmware", "upload", "bios", str(file), *PLACE, "--hmac-auth-type", "Metal-View")
        )
        assert (refused.status, "cannot be reached" in refused.err) == (1, False), refused.err
