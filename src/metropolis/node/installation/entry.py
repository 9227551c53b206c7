# SPDX-License-Identifier: Apache-2.0
"""Where process 1 hands over when it was started from an install medium."""

import asyncio
import hashlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from metropolis.base.errors import UnavailableError
from metropolis.formats.pcr import KERNEL_PCR
from metropolis.host.disk_writing import WritableDisk
from metropolis.host.linux.block_devices import disks
from metropolis.host.linux.efi_variables import PLACE, LinuxEfiVariables
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.host.linux.raw_disk import RawDisk
from metropolis.host.linux.tpm import LinuxTpm, has_tpm
from metropolis.node.installation.boot_entry import BootVariables
from metropolis.node.installation.medium import RunningSystem
from metropolis.node.installation.run import Done, run_installer
from metropolis.node.installation.target import DiskFacts
from metropolis.node.sealing.talk import Talk
from metropolis.protocols.tpm2 import commands
from metropolis.protocols.tpm2.session import Password

_LOCK_DIGEST: Final = hashlib.sha256(b"metropolis: an install medium runs").digest()


def install_from_medium(
    *, disk: str, options: Mapping[str, str], files: Path, say: Callable[[str], None]
) -> str:
    """Run the installer; return why the machine is to be started again.

    Args:
        disk: The kernel's name of the medium.
        options: Of the kernel's signed command line.
        files: Where the medium's FAT32 partition is mounted.
        say: Prints a line on the consoles.

    Raises:
        MetropolisError: this machine cannot be installed as it is; the remedy says what to do.
    """
    _lock_tpm()
    system = RunningSystem(
        root_hash=bytes.fromhex(options["metropolis.root"]),
        data_blocks=int(options["metropolis.blocks"]),
        salt=bytes.fromhex(options["metropolis.salt"]),
    )
    try:
        done = run_installer(_Machine(disk, files), system, say=say)
    except OSError as cause:
        raise UnavailableError(
            f"a disk failed during the installation: {cause}",
            remedy="Replace the disk or the medium, then start the medium again: "
            "it begins from the start.",
        ) from cause
    return _REASONS[done]


_REASONS: Final = {
    Done.ENROLLED: "Secure Boot keys were enrolled",
    Done.INSTALLED: "installation completed",
    Done.FOUND: "Metropolis is installed",
}


class _Machine:
    """This machine, as the installer sees it."""

    def __init__(self, medium: str, files: Path) -> None:
        self._medium = medium
        self._files = files

    @property
    def variables(self) -> BootVariables | None:
        return LinuxEfiVariables() if PLACE.is_dir() else None

    def disks(self) -> Sequence[DiskFacts]:
        return [
            DiskFacts(
                device=disk.device,
                size_bytes=disk.size_bytes,
                sector_bytes=disk.sector_bytes,
                model=disk.model,
                serial=disk.serial,
                wwn=disk.wwn,
                is_removable=disk.is_removable,
                is_read_only=disk.is_read_only,
                is_rotating=disk.is_rotating,
                is_medium=disk.name == self._medium,
            )
            for disk in disks()
        ]

    @contextmanager
    def open(self, device: str, *, writable: bool) -> Generator[WritableDisk]:
        with RawDisk(device, writable=writable, exclusive=writable) as disk:
            yield disk

    def read_file(self, path: str) -> bytes | None:
        try:
            return (self._files / path).read_bytes()
        except FileNotFoundError:
            return None


def _lock_tpm() -> None:
    """Make every secret that was sealed to this image unreadable until the next start.

    A medium runs the same signed image as a node, and what it does is not signed.
    """
    if has_tpm():
        tpm = LinuxTpm()
        try:
            talk = Talk(tpm, LinuxEntropy())
            asyncio.run(_extend(talk))
        finally:
            tpm.close()


async def _extend(talk: Talk) -> None:
    await talk.ask(commands.pcr_extend(KERNEL_PCR, _LOCK_DIGEST), Password())
