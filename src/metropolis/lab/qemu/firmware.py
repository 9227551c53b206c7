# SPDX-License-Identifier: Apache-2.0
"""OVMF, the firmware of a virtual machine, and the variables it starts with."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from metropolis.base.errors import FailedPreconditionError
from metropolis.formats.efi import authentication, signature_database
from metropolis.lab.qemu import arguments
from metropolis.lab.qemu.flash import Variable, add_variables, secure_boot
from metropolis.pki import certificates

DIRECTORY_VARIABLE: Final = "METROPOLIS_OVMF"
_INSTALLED: Final = Path("/usr/share/OVMF")
_CODE: Final = "OVMF_CODE_4M.secboot.fd"
_TEMPLATE: Final = "OVMF_VARS_4M.fd"
_OWNER: Final = UUID("3e29a1b4-7c4a-4f2c-9e39-0a7c1f7f5d11")
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
    platform_key, key_exchange_keys, allowed = (_database(enrolment, name) for name in _KEYS)
    return secure_boot(
        platform_key=platform_key, key_exchange_keys=key_exchange_keys, allowed=allowed
    )


def write_variables(machine: Path, firmware: Firmware, variables: Sequence[Variable]) -> None:
    """Give a machine its flash; none of the variables means Setup Mode."""
    flash = add_variables(firmware.template.read_bytes(), variables)
    place = machine / arguments.VARIABLES
    unfinished = place.with_name(f"{place.name}.new")
    unfinished.write_bytes(flash)
    unfinished.rename(place)


def _database(enrolment: Path, name: str) -> bytes:
    path = enrolment / f"{name}.auth"
    if path.exists():
        return authentication.decode(path.read_bytes()).value
    certificate = certificates.from_pem((enrolment / f"{name}.crt").read_bytes())
    signature = signature_database.EfiSignature(
        kind=signature_database.X509, owner=_OWNER, data=certificate
    )
    return signature_database.encode([signature])
