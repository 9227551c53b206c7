# SPDX-License-Identifier: Apache-2.0
"""Machines as they are sold: an empty disk, firmware in Setup Mode, a TPM. And sticks for them."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.lab.model import Rack
from metropolis.lab.qemu import firmware
from metropolis.lab.qemu.arguments import DISK, VARIABLES
from metropolis.lab.qemu.disks import DISK_BYTES
from metropolis.lab.qemu.preparation import make_tpms
from metropolis.lab.state import ClusterDirectory

MEDIUM: Final = "medium.img"  # if it is there: the stick that is in, at the next power-on


async def make_blank_machines(rack: Rack, directory: ClusterDirectory) -> None:
    """Give every machine of a rack what it lacks; takes about a second.

    Raises:
        FailedPreconditionError: the firmware is not on this computer.
        UnavailableError: a TPM cannot be made.
    """
    build = firmware.find_firmware((directory.image,))
    for number in rack.numbers:
        machine = directory.node(number)
        if not (machine / VARIABLES).exists():
            firmware.write_variables(machine, build, ())
        if not (machine / DISK).exists():
            _make_disk(machine / DISK)
    await make_tpms(rack, directory)


def plug_in(machine: Path, medium: Path) -> None:
    """Put a stick with the content of a file into a machine that is off.

    Raises:
        InvalidArgumentError: there is no such file.
        FailedPreconditionError: it cannot be copied.
    """
    if not medium.is_file():
        raise InvalidArgumentError(
            f"{medium} is no file", remedy="Name what `metroctl install genusb` has written."
        )
    unfinished = machine / f"{MEDIUM}.new"
    unfinished.unlink(missing_ok=True)
    try:
        # A register ticket may be inside.
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        shutil.copyfile(medium, unfinished)
        unfinished.rename(machine / MEDIUM)
    except OSError as cause:
        raise FailedPreconditionError(
            f"cannot copy {medium}: {cause.strerror or cause}",
            remedy="Correct what the error says, then try again.",
        ) from cause
    finally:
        unfinished.unlink(missing_ok=True)


def pull_out(machine: Path) -> None:
    """Take the stick out of a machine that is off, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        (machine / MEDIUM).unlink()


def _make_disk(disk: Path) -> None:
    unfinished = disk.with_name(f"{disk.name}.new")
    unfinished.unlink(missing_ok=True)
    os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.truncate(unfinished, DISK_BYTES)
    unfinished.rename(disk)
