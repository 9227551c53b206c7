# SPDX-License-Identifier: Apache-2.0
"""The firmware's variable store as OVMF keeps it in flash. Pure.

    firmware volume header │ store header │ variable, variable, …  (0xff: never written)
                                             0x55aa, state, attributes, time, sizes, vendor GUID,
                                             name in UTF-16, data, padding to 4 bytes

Sources: UEFI Platform Initialization specification (firmware volume), EDK II
`MdeModulePkg/Include/Guid/VariableFormat.h` (AUTHENTICATED_VARIABLE_HEADER).
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from metropolis.base.errors import DataLossError
from metropolis.formats.efi.variables import (
    ALLOWED,
    AUTHENTICATED,
    KEY_EXCHANGE_KEYS,
    PLAIN,
    PLATFORM_KEY,
    Attributes,
    VariableName,
)

_SECURE_BOOT_ENABLE: Final = VariableName(
    name="SecureBootEnable", vendor=UUID("f0a30bc7-af08-4556-99c4-001009c93a44")
)
_CUSTOM_MODE: Final = VariableName(
    name="CustomMode", vendor=UUID("c076ec0c-7028-4399-a072-71ee5c448b9f")
)
_STORE: Final = UUID("aaf32c78-947b-439a-a180-2e144ec37792")

_VOLUME_LENGTHS: Final = struct.Struct("<32xQ4s4xH")  # volume bytes, "_FVH", header bytes
_STORE_HEADER: Final = struct.Struct("<16sIBB6x")  # GUID, bytes, format, state
_VARIABLE: Final = struct.Struct("<HBxIQ16sIII16s")
_START: Final = 0x55AA
_WRITTEN: Final = 0x3F  # header valid and variable added: bits are cleared one by one in flash
_FORMATTED: Final = 0x5A
_HEALTHY: Final = 0xFE
_ALIGNMENT: Final = 4
_LONG_AGO: Final = struct.pack("<HBBBBBxIhBx", 2000, 1, 1, 0, 0, 0, 0, 0, 0)  # EFI_TIME


_BOOT: Final = Attributes.NON_VOLATILE | Attributes.BOOT_SERVICE_ACCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One variable of the firmware."""

    name: VariableName
    value: bytes
    attributes: Attributes = PLAIN


def secure_boot(
    *, platform_key: bytes, key_exchange_keys: bytes, allowed: bytes
) -> Sequence[Variable]:
    """The variables of a firmware that trusts only the given keys, and insists on them.

    Args:
        platform_key: The signature list of PK; the others are those of KEK and db.
    """
    return (
        Variable(name=PLATFORM_KEY, value=platform_key, attributes=AUTHENTICATED),
        Variable(name=KEY_EXCHANGE_KEYS, value=key_exchange_keys, attributes=AUTHENTICATED),
        Variable(name=ALLOWED, value=allowed, attributes=AUTHENTICATED),
        Variable(name=_SECURE_BOOT_ENABLE, value=b"\1", attributes=_BOOT),
        Variable(name=_CUSTOM_MODE, value=b"\0", attributes=_BOOT),
    )


def add_variables(flash: bytes, variables: Sequence[Variable]) -> bytes:
    """Return a flash image that holds more variables.

    Args:
        flash: As it comes with the firmware, or as a machine left it; none of the variables is
            in it.

    Raises:
        DataLossError: that is no variable store of this firmware, or it is full.
    """
    start, end = _free_space(flash)
    data = b"".join(map(_encode, variables))
    if start + len(data) > end:
        raise DataLossError(
            "the firmware's variable store is full",
            remedy="Use the unchanged OVMF_VARS file of the package ovmf.",
        )
    return flash[:start] + data + flash[start + len(data) :]


def read_variables(flash: bytes) -> Sequence[Variable]:
    """Return the variables that are in force.

    Raises:
        DataLossError: that is no variable store of this firmware.
    """
    found: list[Variable] = []
    offset, end = _store(flash)
    while (entry := _entry_at(flash, offset, end)) is not None:
        state, variable, offset = entry
        if state == _WRITTEN:
            found.append(variable)
    return found


def _encode(variable: Variable) -> bytes:
    name = variable.name.name.encode("utf-16-le") + b"\0\0"
    is_authenticated = Attributes.TIME_BASED_AUTHENTICATED_WRITE_ACCESS in variable.attributes
    # fmt: off
    header = _VARIABLE.pack(
        _START, _WRITTEN, int(variable.attributes), 0,
        _LONG_AGO if is_authenticated else bytes(16),
        0, len(name), len(variable.value), variable.name.vendor.bytes_le,
    )
    # fmt: on
    data = header + name + variable.value
    return data + b"\xff" * (-len(data) % _ALIGNMENT)


def _store(flash: bytes) -> tuple[int, int]:
    """Return where the first variable is, and the end of the store."""
    try:
        _, signature, header_bytes = _VOLUME_LENGTHS.unpack_from(flash)
        guid, store_bytes, form, state = _STORE_HEADER.unpack_from(flash, header_bytes)
    except struct.error as cause:
        raise _foreign() from cause
    if (signature, guid, form, state) != (b"_FVH", _STORE.bytes_le, _FORMATTED, _HEALTHY):
        raise _foreign()
    return header_bytes + _STORE_HEADER.size, header_bytes + store_bytes


def _entry_at(flash: bytes, offset: int, end: int) -> tuple[int, Variable, int] | None:
    """Return state and content of a variable and where the next one is; None after the last."""
    if offset + _VARIABLE.size > end:
        return None
    found = _VARIABLE.unpack_from(flash, offset)
    start, state, attributes, _, _, _, name_bytes, data_bytes, vendor = found
    if start != _START:
        return None
    body = offset + _VARIABLE.size
    after = body + name_bytes + data_bytes
    variable = Variable(
        name=VariableName(
            name=flash[body : body + name_bytes].decode("utf-16-le", "replace").rstrip("\0"),
            vendor=UUID(bytes_le=vendor),
        ),
        value=flash[body + name_bytes : after],
        attributes=Attributes(attributes),
    )
    return state, variable, after + -after % _ALIGNMENT


def _free_space(flash: bytes) -> tuple[int, int]:
    offset, end = _store(flash)
    while (entry := _entry_at(flash, offset, end)) is not None:
        offset = entry[2]
    return offset, end


def _foreign() -> DataLossError:
    return DataLossError(
        "the file holds no variable store of OVMF",
        remedy="Use the file OVMF_VARS_4M.fd of the package ovmf.",
    )
