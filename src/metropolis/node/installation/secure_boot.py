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
is signed by itself. A machine whose power is cut in between is still in Setup Mode, and begins anew.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError, MetropolisError

GLOBAL_GUID: Final = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
DATABASE_GUID: Final = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
AUTHENTICATED: Final = 0x27  # non-volatile, boot services, run time, time based authentication
APPEND: Final = AUTHENTICATED | 0x40

_ORDER: Final = (("db", DATABASE_GUID), ("KEK", GLOBAL_GUID), ("PK", GLOBAL_GUID))
_DEFAULTS: Final = (("db", "dbDefault"), ("KEK", "KEKDefault"))
_TIME_BYTES: Final = 16
_CERTIFICATE: Final = struct.Struct("<IHH16s")  # WIN_CERTIFICATE_UEFI_GUID
_CERTIFICATE_REVISION: Final = 0x200
_CERTIFICATE_TYPE: Final = 0x0EF1
_PKCS7_GUID: Final = bytes.fromhex("9dd2af4adf68ee498aa9347d375665a7")
_LIST: Final = struct.Struct("<16sIII")  # EFI_SIGNATURE_LIST
_OWNER_BYTES: Final = 16
_MENU: Final = "in the firmware's menu (usually Security or Boot, Secure Boot)"


class FirmwareVariables(Protocol):
    """The EFI variables of this machine."""

    def read(self, name: str, guid: str = GLOBAL_GUID) -> bytes | None:
        """Return a variable's data, or None where there is none."""
        ...

    def write(
        self, name: str, data: bytes, guid: str = GLOBAL_GUID, *, attributes: int = 7
    ) -> None:
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

    name: str
    guid: str
    data: bytes
    attributes: int = AUTHENTICATED


def judge_secure_boot(variables: FirmwareVariables, enrolment: Mapping[str, bytes]) -> SecureBoot:
    """Find out whether this machine may be installed now, or needs our keys first.

    Args:
        enrolment: Signed updates from the medium, by the name of their variable.

    Raises:
        FailedPreconditionError: neither; the remedy names the firmware's menu.
    """
    setup_mode = variables.read("SetupMode")
    if setup_mode is None:
        raise _refused(
            "the firmware of this machine has no Secure Boot",
            "Use a machine with UEFI Secure Boot, or update its firmware.",
        )
    if setup_mode[:1] == b"\1":
        return SecureBoot.SETUP
    ours = set(signatures(payload(enrolment["db"])))
    known = set(signatures(variables.read("db", DATABASE_GUID) or b""))
    is_on = variables.read("SecureBoot") == b"\1"
    if ours <= known:
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
        InvalidArgumentError: the medium's files are no signed updates.
    """
    for data in enrolment.values():
        list(signatures(payload(data)))
    first = [Update(name=name, guid=guid, data=enrolment[name]) for name, guid in _ORDER]
    if not keeps_vendor_keys:
        return first
    guids = dict(_ORDER)
    kept: list[Update] = []
    for name, default in _DEFAULTS:
        lists = variables.read(default) or variables.read(name, guids[name]) or b""
        if lists:
            data = _unsigned(lists, time=enrolment[name][:_TIME_BYTES])
            kept.append(Update(name=name, guid=guids[name], data=data, attributes=APPEND))
    *before, platform_key = first
    return [*before, *kept, platform_key]


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
        try:
            variables.write(update.name, update.data, update.guid, attributes=update.attributes)
        except MetropolisError as cause:
            raise _refused(f"{update.name} was not enrolled: {cause}", by_hand) from cause
    if (variables.read("SetupMode") or b"")[:1] != b"\0":
        raise _refused("the firmware took all keys and is still in Setup Mode", by_hand)


def payload(update: bytes) -> bytes:
    """Return the signature lists of a signed update (EFI_VARIABLE_AUTHENTICATION_2).

    Raises:
        InvalidArgumentError: it is none.
    """
    if len(update) < _TIME_BYTES + _CERTIFICATE.size:
        raise _damaged()
    length, _, kind, guid = _CERTIFICATE.unpack_from(update, _TIME_BYTES)
    is_known = kind == _CERTIFICATE_TYPE and guid == _PKCS7_GUID
    if not is_known or not _CERTIFICATE.size <= length <= len(update) - _TIME_BYTES:
        raise _damaged()
    return update[_TIME_BYTES + length :]


def signatures(lists: bytes) -> Sequence[tuple[bytes, bytes]]:
    """Return (type, certificate or digest) of all entries; who put them there does not matter.

    Raises:
        InvalidArgumentError: these are no signature lists.
    """
    found: list[tuple[bytes, bytes]] = []
    rest = lists
    while rest:
        if len(rest) < _LIST.size:
            raise _damaged()
        kind, list_bytes, header_bytes, entry_bytes = _LIST.unpack_from(rest)
        start = _LIST.size + header_bytes
        if not start <= list_bytes <= len(rest) or entry_bytes <= _OWNER_BYTES:
            raise _damaged()
        if (list_bytes - start) % entry_bytes:
            raise _damaged()
        found.extend(
            (kind, rest[at + _OWNER_BYTES : at + entry_bytes])
            for at in range(start, list_bytes, entry_bytes)
        )
        rest = rest[list_bytes:]
    return found


def _unsigned(lists: bytes, *, time: bytes) -> bytes:
    """Wrap lists as an update without a signature, which only a firmware in Setup Mode takes."""
    certificate = _CERTIFICATE.pack(
        _CERTIFICATE.size, _CERTIFICATE_REVISION, _CERTIFICATE_TYPE, _PKCS7_GUID
    )
    return time + certificate + lists


def _damaged() -> MetropolisError:
    return InvalidArgumentError(
        "the Secure Boot keys on this medium, or in the firmware, are damaged",
        remedy="Write the medium again with `metroctl install genusb`.",
    )


def _refused(problem: str, remedy: str) -> MetropolisError:
    return FailedPreconditionError(problem, remedy=remedy)
