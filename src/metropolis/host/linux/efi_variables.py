# SPDX-License-Identifier: Apache-2.0
"""EFI variables, through efivarfs: each is a file of four attribute bytes and the data.

The kernel marks variables that it does not know as immutable, so that nobody breaks a machine by
removing files; the mark is taken off before a change of ours.
"""

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import Final, final

from metropolis.base.errors import FailedPreconditionError

PLACE: Final = Path("/sys/firmware/efi/efivars")
GLOBAL_GUID: Final = "8be4df61-93ca-11d2-aa0d-00e098032b8c"  # UEFI: BootOrder, SecureBoot, …
LOADER_GUID: Final = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"  # the boot loader interface
DEFAULT_ATTRIBUTES: Final = 0x7  # non-volatile, boot services, run time

_ATTRIBUTES: Final = struct.Struct("<I")
_GET_FLAGS: Final = 0x80086601  # FS_IOC_GETFLAGS of a 64-bit kernel
_SET_FLAGS: Final = 0x40086602
_IMMUTABLE: Final = 0x10
_REMEDY: Final = "Check that the firmware's variable store is writable and not full."


@final
class LinuxEfiVariables:
    """The variables of this machine. None of its methods waits."""

    def __init__(self, place: Path = PLACE) -> None:
        self._place = place

    def read(self, name: str, guid: str = GLOBAL_GUID) -> bytes | None:
        """Return a variable's data, or None where there is none."""
        try:
            data = (self._place / f"{name}-{guid}").read_bytes()
        except OSError:
            return None
        return data[_ATTRIBUTES.size :] if len(data) >= _ATTRIBUTES.size else None

    def write(
        self,
        name: str,
        data: bytes,
        guid: str = GLOBAL_GUID,
        *,
        attributes: int = DEFAULT_ATTRIBUTES,
    ) -> None:
        """Create or replace a variable. An equal one is left alone: flash wears out.

        Raises:
            FailedPreconditionError: the firmware refuses it.
        """
        path = self._place / f"{name}-{guid}"
        if self.read(name, guid) == data:
            return
        try:
            _make_mutable(path)
            # One write is one variable: the firmware stores it whole or not at all.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.write(descriptor, _ATTRIBUTES.pack(attributes) + data)
            finally:
                os.close(descriptor)
        except OSError as cause:
            raise _refused("write", name, cause) from cause

    def remove(self, name: str, guid: str = GLOBAL_GUID) -> None:
        """Remove a variable; it is fine when it is not there.

        Raises:
            FailedPreconditionError: the firmware refuses.
        """
        path = self._place / f"{name}-{guid}"
        try:
            _make_mutable(path)
            path.unlink()
        except FileNotFoundError:
            return
        except OSError as cause:
            raise _refused("remove", name, cause) from cause

    def names(self) -> tuple[tuple[str, str], ...]:
        """Return (name, GUID) of every variable, sorted."""
        try:
            listing = sorted(os.listdir(self._place))  # noqa: PTH208  # names are wanted
        except OSError:
            return ()
        guid_chars = len(GLOBAL_GUID)
        return tuple((each[: -guid_chars - 1], each[-guid_chars:]) for each in listing)


def read_text(data: bytes | None) -> str | None:
    """Decode a variable that holds a UTF-16 string with its terminator, as loaders write them."""
    if data is None:
        return None
    return data.decode("utf-16-le", errors="replace").rstrip("\0")


def _make_mutable(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        flags = bytearray(8)
        fcntl.ioctl(descriptor, _GET_FLAGS, flags)
        number = int.from_bytes(flags, "little")
        if number & _IMMUTABLE:
            fcntl.ioctl(descriptor, _SET_FLAGS, (number & ~_IMMUTABLE).to_bytes(8, "little"))
    except OSError as error:
        if error.errno not in {errno.ENOTTY, errno.EOPNOTSUPP}:  # not efivarfs: a test's directory
            raise
    finally:
        os.close(descriptor)


def _refused(verb: str, name: str, cause: OSError) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"the firmware does not {verb} the variable {name}: {cause.strerror}", remedy=_REMEDY
    )
