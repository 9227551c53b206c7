# SPDX-License-Identifier: Apache-2.0
"""Install media in virtual machines, from the command that writes them to a healthy node."""

import asyncio
import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from e2e.vm.machines import NAME, guest_directory
from kits.signer import signer
from metropolis.api.management_pb2 import Node
from metropolis.ctl.metroctl import main
from metropolis.formats.efi import signature_database
from metropolis.formats.efi.signature_database import EfiSignature
from metropolis.formats.efi.variables import ALLOWED, AUTHENTICATED
from metropolis.image.bundle import write_bundle
from metropolis.lab.cluster import LabCluster
from metropolis.lab.launch import Launch
from metropolis.lab.leftovers import find_processes
from metropolis.lab.model import QEMU_DRIVER
from metropolis.lab.progress import Progress
from metropolis.lab.qemu.accelerator import choose_accelerator
from metropolis.lab.qemu.arguments import DISK, VARIABLES, Disk, Hardware
from metropolis.lab.qemu.disks import ENROLMENT
from metropolis.lab.qemu.firmware import find_firmware, write_variables
from metropolis.lab.qemu.flash import Variable, read_variables
from metropolis.lab.qemu.guest import Guest
from metropolis.lab.qemu.image import found_image
from metropolis.lab.qemu.preparation import prepare_machines
from metropolis.lab.state import ClusterDirectory

TIMEOUT_S = 240.0  # each start of a medium, on a busy computer without KVM
STICK = "stick.img"
DISK_BYTES = 4 * 10**9  # what people are advised to give a virtual machine


def _with_medium(hardware: Hardware, *, by_usb: bool) -> Hardware:
    """The same machine with the medium plugged in; by USB it is slow, where it is emulated."""
    return replace(hardware, disks=(Disk(path=DISK), Disk(path=STICK, is_removable=by_usb)))


def _bare(image: Path, machine: Path) -> Hardware:
    code = find_firmware((image,)).code
    return Hardware(
        name=machine.name, accelerator=choose_accelerator(os.environ), firmware=str(code)
    )


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


def _make_blank_disk(machine: Path, size_bytes: int) -> None:
    (machine / DISK).touch(mode=0o600)
    os.truncate(machine / DISK, size_bytes)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the operator's contexts are."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "metroctl"


@pytest.fixture
def lone(image: Path, tmp_path: Path) -> Iterator[LabCluster]:
    """A cluster of one machine that nobody has told anything: no disk, firmware without keys."""
    cluster = LabCluster(ClusterDirectory(tmp_path / "clusters" / NAME), dies_with_us=True)
    try:
        rack = cluster.create(count=1, driver=QEMU_DRIVER, proxy_tcp_port=0)
        found_image(cluster.directory, image=image, say=lambda _: None)
        asyncio.run(prepare_machines(rack, cluster.directory))
        # In Setup Mode, and with the key of whoever made it, as firmware comes.
        came_with = [Variable(name=ALLOWED, value=_database("vendor"), attributes=AUTHENTICATED)]
        write_variables(cluster.directory.node(0), find_firmware((image,)), came_with)
        yield cluster
    finally:
        asyncio.run(cluster.destroy())
    assert find_processes(cluster.directory) == []


@pytest.mark.timeout(900)
def test_a_medium_enrols_keys_installs_and_its_machine_founds_a_cluster(
    image: Path, lone: LabCluster, config: Path
) -> None:
    machine = lone.directory.node(0)
    write_bundle(image, lone.directory.path / "bundle.zip")
    _make_stick(
        machine, lone.directory.path / "bundle.zip", "--context", NAME, "--keep-vendor-keys"
    )
    _make_blank_disk(machine, DISK_BYTES)

    async def install() -> None:
        async with Guest(machine, _with_medium(_bare(image, machine), by_usb=True)) as guest:
            await guest.wait_for(
                r"The firmware is in Setup Mode: enrolling the Secure Boot keys",
                timeout_s=TIMEOUT_S,
            )
            await guest.wait_for(r"Secure Boot is on, with the keys", timeout_s=TIMEOUT_S)
            erased = await guest.wait_for(r"it is erased", timeout_s=TIMEOUT_S)
            assert "/dev/vda (4.0 GB) holds nothing" in erased.text
            await guest.wait_for(r"^Installing to /dev/vda\.\.\.$", timeout_s=TIMEOUT_S)
            await guest.wait_for(r"^Installation completed\. Rebooting\.$", timeout_s=TIMEOUT_S)
            # The medium is still in; the firmware starts the disk.
            await guest.wait_for(r"starting Boot\d+ \"Metropolis A\"", timeout_s=TIMEOUT_S)

    uvloop.run(install())
    ours, kept = _believed(machine)
    assert (
        x509.load_pem_x509_certificate((image / ENROLMENT / "db.crt").read_bytes()).public_bytes(
            Encoding.DER
        )
        == ours
    )
    assert kept == signer("vendor").certificate_der
    (machine / STICK).unlink()
    launch = Launch(
        cluster=lone,
        contexts_root=config,
        progress=Progress(io.StringIO(), title="test"),
        timeout_s=TIMEOUT_S,
    )
    (node,) = uvloop.run(launch.run())
    assert node.health == Node.HEALTH_HEALTHY


@pytest.mark.timeout(900)
def test_an_installation_whose_power_is_cut_is_done_again_and_then_the_disk_is_started(
    image: Path, tmp_path: Path, config: Path
) -> None:
    assert not config.exists()  # --bootstrap makes it
    machine, hardware = guest_directory(tmp_path / "machine", image)
    _make_stick(machine, image)
    _make_blank_disk(machine, 1 << 30)

    async def story() -> None:
        async with Guest(machine, _with_medium(hardware, by_usb=False)) as guest:
            refused = await guest.wait_for(r"^Fatal error: cannot install", timeout_s=TIMEOUT_S)
            assert refused.text.startswith(
                "Fatal error: cannot install: couldn't find a suitable block device: /dev/vda "
                "(1.1 GB): it has 1024 MiB, a node needs at least 2306; /dev/vdb ("
            )
            assert refused.text.endswith("it is the install medium")
            remedy = await guest.wait_for(r"^Next step: ", timeout_s=10)
            assert "Connect a disk of at least 3 GB" in remedy.text
        os.truncate(machine / DISK, DISK_BYTES)
        async with Guest(machine, _with_medium(hardware, by_usb=False)) as guest:
            await guest.wait_for(r"^20 % of ", timeout_s=TIMEOUT_S)
        async with Guest(machine, _with_medium(hardware, by_usb=False)) as guest:
            again = await guest.wait_for(r"it is erased, since", timeout_s=TIMEOUT_S)
            assert "an installation from this medium was interrupted here" in again.text
            await guest.wait_for(r"^Installation completed\.", timeout_s=TIMEOUT_S)

    uvloop.run(story())
    shutil.rmtree(machine)
