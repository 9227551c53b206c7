# SPDX-License-Identifier: Apache-2.0
"""Secure Boot before an installation: the firmware gets our keys, or is left as it is.

    SetupMode  SecureBoot   our certificate in db   what is done
    ---------  ----------   ---------------------   --------------------------------------------
    absent     any          any                     refuse: this firmware has no Secure Boot
    1          any          any                     enrol db, KEK and PK, restart, look again
    0          1            yes                     go on
    0          1            no                      refuse: on, with keys of somebody else
    0          0            yes                     refuse: enrolled, but turned off
    0          0            no                      refuse: no Setup Mode, and not our keys

In Setup Mode a firmware takes db and KEK as they come. PK comes last, since it ends Setup Mode; it
is signed by itself. A machine whose power is cut before that begins anew.
"""

import contextlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol
from uuid import UUID

from metropolis.base.errors import FailedPreconditionError, MetropolisError
from metropolis.formats.efi import authentication, signature_database
from metropolis.formats.efi.variables import (
    ALLOWED,
    AUTHENTICATED,
    GLOBAL,
    KEY_EXCHANGE_KEYS,
    PLAIN,
    PLATFORM_KEY,
    SECURE_BOOT,
    SETUP_MODE,
    Attributes,
    VariableName,
)

_ORDER: Final = (ALLOWED, KEY_EXCHANGE_KEYS, PLATFORM_KEY)
_DEFAULTS: Final = ((ALLOWED, "dbDefault"), (KEY_EXCHANGE_KEYS, "KEKDefault"))
_TIME_BYTES: Final = 16
_CERTIFICATE: Final = struct.Struct("<IHH16s")  # WIN_CERTIFICATE_UEFI_GUID
_CERTIFICATE_REVISION: Final = 0x200
_CERTIFICATE_TYPE: Final = 0x0EF1
_PKCS7: Final = UUID("4aafd29d-68df-49ee-8aa9-347d375665a7")
_MENU: Final = "in the firmware's menu (usually Security or Boot, Secure Boot)"


class FirmwareVariables(Protocol):
    """The EFI variables of this machine."""

    def read(self, name: str, guid: str = ...) -> bytes | None:
        """Return a variable's data, or None where there is none. Without a GUID: of GLOBAL."""
        ...

    def write(self, name: str, data: bytes, guid: str = ..., *, attributes: int = ...) -> None:
        """Create or replace a variable.

        Raises:
            FailedPreconditionError: the firmware refuses it.
        """
        ...


class SecureBoot(Enum):
    """What a machine's Secure Boot allows."""

    SETUP = "in Setup Mode"
    VERIFIED = "on, with our keys"


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A variable to be written, in its form for SetVariable."""

    variable: VariableName
    data: bytes
    attributes: Attributes = AUTHENTICATED


def judge_secure_boot(variables: FirmwareVariables, enrolment: Mapping[str, bytes]) -> SecureBoot:
    """Find out whether this machine may be installed now, or needs our keys first.

    Args:
        enrolment: Signed updates from the medium, by the name of their variable.

    Raises:
        FailedPreconditionError: neither; the remedy names the firmware's menu.
        DataLossError: the medium's keys or the firmware's are damaged.
    """
    setup_mode = _read(variables, SETUP_MODE)
    if not setup_mode:
        raise _refused(
            "the firmware of this machine has no Secure Boot",
            "Use a machine with UEFI Secure Boot, or update its firmware.",
        )
    if setup_mode == b"\1":
        return SecureBoot.SETUP
    ours = _believed(authentication.decode(enrolment["db"]).value)
    is_on = _read(variables, SECURE_BOOT) == b"\1"
    if ours <= _believed(_read(variables, ALLOWED)):
        if is_on:
            return SecureBoot.VERIFIED
        raise _refused(
            "Secure Boot is turned off; the keys of Metropolis are enrolled",
            f"Turn Secure Boot on {_MENU}, then start this medium again.",
        )
    state = "on, with other keys than those of this medium" if is_on else "off"
    raise _refused(
        f"Secure Boot is {state}, and the firmware is not in Setup Mode",
        f"Delete the Platform Key or choose Setup Mode {_MENU}, then start this medium again.",
    )


def plan_enrolment(
    variables: FirmwareVariables, enrolment: Mapping[str, bytes], *, keeps_vendor_keys: bool
) -> Sequence[Update]:
    """Return what is to be written, in this order, to a firmware in Setup Mode.

    Args:
        keeps_vendor_keys: Add the keys that the firmware came with to db and KEK: option ROMs of
            network and graphics cards are signed with them.

    Raises:
        DataLossError: the medium's files are no signed updates.
    """
    for data in enrolment.values():
        signature_database.decode(authentication.decode(data).value)
    *first, platform_key = (
        Update(variable=variable, data=enrolment[variable.name]) for variable in _ORDER
    )
    if not keeps_vendor_keys:
        return [*first, platform_key]
    kept: list[Update] = []
    for variable, default in _DEFAULTS:
        vendor_default = VariableName(name=default, vendor=GLOBAL)
        if lists := _read(variables, vendor_default) or _read(variables, variable):
            data = _unsigned(lists, time=enrolment[variable.name][:_TIME_BYTES])
            attributes = AUTHENTICATED | Attributes.APPEND_WRITE
            kept.append(Update(variable=variable, data=data, attributes=attributes))
    return [*first, *kept, platform_key]


def enrol(variables: FirmwareVariables, updates: Sequence[Update]) -> None:
    """Write the keys and check that they ended Setup Mode.

    Raises:
        FailedPreconditionError: the firmware refuses; the remedy is its own menu.
    """
    by_hand = (
        f"Enrol the files of metropolis-installer/enrolment on this medium {_MENU}: "
        "db first, then KEK, then PK."
    )
    for update in updates:
        name = update.variable.name
        vendor = str(update.variable.vendor)
        try:
            variables.write(name, update.data, vendor, attributes=int(update.attributes))
        except MetropolisError as cause:
            raise _refused(f"{name} was not enrolled: {cause}", by_hand) from cause
    if _read(variables, SETUP_MODE) != b"\0":
        raise _refused("the firmware took all keys and is still in Setup Mode", by_hand)


def start_again_from_here(variables: FirmwareVariables) -> None:
    """Have the firmware start next what it has started now, whatever its order says."""
    current = variables.read("BootCurrent")
    if current is not None:
        with contextlib.suppress(MetropolisError):  # then its order decides, which mostly suffices
            variables.write("BootNext", current, attributes=int(PLAIN))


def _read(variables: FirmwareVariables, variable: VariableName) -> bytes:
    return variables.read(variable.name, str(variable.vendor)) or b""


def _believed(database: bytes) -> set[tuple[UUID, bytes]]:
    """Return what a database lets start; who put it there does not matter."""
    return {(each.kind, each.data) for each in signature_database.decode(database)}


def _unsigned(lists: bytes, *, time: bytes) -> bytes:
    """Wrap lists as an update without a signature, which only a firmware in Setup Mode takes."""
    certificate = _CERTIFICATE.pack(
        _CERTIFICATE.size, _CERTIFICATE_REVISION, _CERTIFICATE_TYPE, _PKCS7.bytes_le
    )
    return time + certificate + lists


def _refused(problem: str, remedy: str) -> MetropolisError:
    return FailedPreconditionError(problem, remedy=remedy)
