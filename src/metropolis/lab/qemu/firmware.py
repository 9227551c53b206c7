# SPDX-License-Identifier: Apache-2.0
"""OVMF, the firmware of a virtual machine, and the variables it starts with."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from metropolis.base.errors import FailedPreconditionError
from metropolis.lab.qemu import arguments
from metropolis.lab.qemu.variables import Variable, add_variables, secure_boot
from metropolis.lab.qemu.variables import without_authentication as signature_list

DIRECTORY_VARIABLE: Final = "METROPOLIS_OVMF"
_INSTALLED: Final = Path("/usr/share/OVMF")
_CODE: Final = "OVMF_CODE_4M.secboot.fd"
_TEMPLATE: Final = "OVMF_VARS_4M.fd"
_KEYS: Final = ("PK", "KEK", "db")


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """One build of OVMF.

    Attributes:
        code: The flash image with its program: Secure Boot, protected by SMM.
        template: The flash image of its variables, without any.
    """

    code: Path
    template: Path


def find_firmware(directories: Sequence[Path] = ()) -> Firmware:
    """Return the firmware to use: the first of the directories that has one, else the computer's.

    Raises:
        FailedPreconditionError: there is none.
    """
    chosen = os.environ.get(DIRECTORY_VARIABLE)
    for directory in (*([Path(chosen)] if chosen else []), *directories, _INSTALLED):
        if (directory / _CODE).is_file() and (directory / _TEMPLATE).is_file():
            return Firmware(code=directory / _CODE, template=directory / _TEMPLATE)
    raise FailedPreconditionError(
        f"the firmware of virtual machines is missing: no {_CODE} in {_INSTALLED}",
        remedy="Run `make setup`, or install the package ovmf.",
    )


def trusting(enrolment: Path) -> Sequence[Variable]:
    """Variables of a firmware that boots only what the image's keys have signed.

    Args:
        enrolment: The image's directory with PK.auth, KEK.auth and db.auth.
    """
    return secure_boot(
        {name: signature_list((enrolment / f"{name}.auth").read_bytes()) for name in _KEYS}
    )


def write_variables(machine: Path, firmware: Firmware, variables: Sequence[Variable]) -> None:
    """Give a machine its flash; none of the variables means Setup Mode."""
    flash = add_variables(firmware.template.read_bytes(), variables)
    (machine / arguments.VARIABLES).write_bytes(flash)
