# SPDX-License-Identifier: Apache-2.0
"""Variables by name, and how Linux shows them: /sys/firmware/efi/efivars/NAME-VENDOR."""

import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import Final
from uuid import UUID

from metropolis.base.errors import DataLossError

GLOBAL: Final = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
IMAGE_SECURITY: Final = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
LOADER: Final = UUID("4a67b082-0a4c-41cf-b6c7-440b29bb8c4f")  # systemd-stub's, "Loader…", "Stub…"
VALUE_BYTES_MAX: Final = 1 << 20


class Attributes(IntFlag):
    """How a variable is kept and written."""

    NON_VOLATILE = 0x01
    BOOT_SERVICE_ACCESS = 0x02
    RUNTIME_ACCESS = 0x04
    TIME_BASED_AUTHENTICATED_WRITE_ACCESS = 0x20
    APPEND_WRITE = 0x40


PLAIN: Final = Attributes.NON_VOLATILE | Attributes.BOOT_SERVICE_ACCESS | Attributes.RUNTIME_ACCESS
AUTHENTICATED: Final = PLAIN | Attributes.TIME_BASED_AUTHENTICATED_WRITE_ACCESS

_ATTRIBUTES: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableName:
    """A variable: names are unique per vendor."""

    name: str
    vendor: UUID

    @property
    def file_name(self) -> str:
        """The name of its file in efivarfs."""
        return f"{self.name}-{self.vendor}"


PLATFORM_KEY: Final = VariableName(name="PK", vendor=GLOBAL)
KEY_EXCHANGE_KEYS: Final = VariableName(name="KEK", vendor=GLOBAL)
ALLOWED: Final = VariableName(name="db", vendor=IMAGE_SECURITY)
FORBIDDEN: Final = VariableName(name="dbx", vendor=IMAGE_SECURITY)
SECURE_BOOT: Final = VariableName(name="SecureBoot", vendor=GLOBAL)
SETUP_MODE: Final = VariableName(name="SetupMode", vendor=GLOBAL)
BOOT_ORDER: Final = VariableName(name="BootOrder", vendor=GLOBAL)
BOOT_NEXT: Final = VariableName(name="BootNext", vendor=GLOBAL)
BOOT_CURRENT: Final = VariableName(name="BootCurrent", vendor=GLOBAL)
LOADER_DEVICE: Final = VariableName(name="LoaderDevicePartUUID", vendor=LOADER)


def encode_file(attributes: Attributes, value: bytes) -> bytes:
    """Return what is written to a variable's file, in one write."""
    return _ATTRIBUTES.pack(attributes) + value


def decode_file(content: bytes) -> tuple[Attributes, bytes]:
    """Return attributes and value of what was read from a variable's file.

    Raises:
        DataLossError: it is cut or larger than any variable.
    """
    if not _ATTRIBUTES.size <= len(content) <= VALUE_BYTES_MAX + _ATTRIBUTES.size:
        raise DataLossError("the file of a firmware variable has an impossible length")
    (attributes,) = _ATTRIBUTES.unpack_from(content)
    return Attributes(attributes), content[_ATTRIBUTES.size :]


def decode_flag(value: bytes) -> bool:
    """Return a variable of one byte, such as SecureBoot.

    Raises:
        DataLossError: it is none.
    """
    if value not in {b"\0", b"\1"}:
        raise DataLossError("a firmware variable is neither 0 nor 1")
    return value == b"\1"


def decode_text(value: bytes) -> str:
    """Return a NUL-terminated text in UTF-16, such as LoaderDevicePartUUID.

    Raises:
        DataLossError: it is none.
    """
    try:
        text, end, rest = value.decode("utf-16-le").partition("\0")
    except UnicodeDecodeError as cause:
        raise DataLossError("a text of the firmware is no UTF-16") from cause
    if not end or rest.strip("\0"):
        raise DataLossError("a text of the firmware does not end where it should")
    return text


def encode_text(text: str) -> bytes:
    """Return a NUL-terminated text in UTF-16."""
    return text.encode("utf-16-le") + b"\0\0"
