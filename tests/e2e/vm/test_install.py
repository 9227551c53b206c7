# SPDX-License-Identifier: Apache-2.0
"""Install media in virtual machines on a bad day; a good one is in the demo."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from e2e.vm.machines import guest_directory
from kits.signer import signer
from metropolis.ctl.metroctl import main
from metropolis.formats.efi import signature_database
from metropolis.formats.efi.signature_database import EfiSignature
from metropolis.formats.efi.variables import ALLOWED, AUTHENTICATED
from metropolis.lab.qemu.arguments import DISK, VARIABLES, Disk, Hardware
from metropolis.lab.qemu.disks import ENROLMENT
from metropolis.lab.qemu.firmware import find_firmware, write_variables
from metropolis.lab.qemu.flash import Variable, read_variables
from metropolis.lab.qemu.guest import Guest

TIMEOUT_S = 240.0  # each start of a medium, on a busy computer without KVM
STICK = "stick.img"
DISK_BYTES = 4 * 10**9  # what people are advised to give a virtual machine


def _with_medium(hardware: Hardware) -> Hardware:
    """The same machine with the medium as a second disk: emulated, USB is slow."""
    return replace(hardware, disks=(Disk(path=DISK), Disk(path=STICK)))


def _make_stick(machine: Path, bundle: Path, *flags: str) -> None:
    words = ["install", "genusb", str(machine / STICK), f"--bundle={bundle}", "--bootstrap"]
    assert main([*words, *flags]) == 0


def _database(*names: str) -> bytes:
    return signature_database.encode(
        [
            EfiSignature(
                kind=signature_database.X509, owner=UUID(int=9), data=signer(name).certificate_der
            )
            for name in names
        ]
    )


def _believed(machine: Path) -> list[bytes]:
    """The certificates in the firmware's db."""
    variables = read_variables((machine / VARIABLES).read_bytes())
    (value,) = (each.value for each in variables if each.name == ALLOWED)
    return [each.data for each in signature_database.decode(value)]


def _builder(image: Path) -> bytes:
    certificate = x509.load_pem_x509_certificate((image / ENROLMENT / "db.crt").read_bytes())
    return certificate.public_bytes(Encoding.DER)


def _make_blank_disk(machine: Path, size_bytes: int) -> None:
    (machine / DISK).touch(mode=0o600)
    os.truncate(machine / DISK, size_bytes)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the operator's contexts are."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "metroctl"


@pytest.mark.timeout(900)
def test_an_installation_whose_power_is_cut_is_done_again(
    image: Path, tmp_path: Path, config: Path
) -> None:
    assert not config.exists()  # --bootstrap makes it
    machine, hardware = guest_directory(tmp_path / "machine", image)
    # In Setup Mode, and with the key of whoever made it, as firmware comes.
    came_with = [Variable(name=ALLOWED, value=_database("vendor"), attributes=AUTHENTICATED)]
    write_variables(machine, find_firmware((image,)), came_with)
    _make_stick(machine, image, "--keep-vendor-keys")
    _make_blank_disk(machine, 1 << 30)

    async def story() -> None:
        async with Guest(machine, _with_medium(hardware)) as guest:
            refused = await guest.wait_for(r"^Fatal error: cannot install", timeout_s=TIMEOUT_S)
            assert refused.text.startswith(
                "Fatal error: cannot install: couldn't find a suitable block device: /dev/vda "
                "(1.1 GB): it has 1024 MiB, a node needs at least 2306; /dev/vdb ("
            )
            assert refused.text.endswith("it is the install medium")
            remedy = await guest.wait_for(r"^Next step: ", timeout_s=10)
            assert "Connect a disk of at least 3 GB" in remedy.text
        # Nothing was changed: the firmware is as it came.
        os.truncate(machine / DISK, DISK_BYTES)
        async with Guest(machine, _with_medium(hardware)) as guest:
            await guest.wait_for(r"^The firmware is in Setup Mode: enrolling", timeout_s=TIMEOUT_S)
            await guest.wait_for(r"^20 % of ", timeout_s=TIMEOUT_S)
        async with Guest(machine, _with_medium(hardware)) as guest:
            again = await guest.wait_for(r"it is erased, since", timeout_s=TIMEOUT_S)
            assert "an installation from this medium was interrupted here" in again.text
            await guest.wait_for(r"^Installation completed\.", timeout_s=TIMEOUT_S)

    uvloop.run(story())
    assert _believed(machine) == [_builder(image), signer("vendor").certificate_der]
    shutil.rmtree(machine)
