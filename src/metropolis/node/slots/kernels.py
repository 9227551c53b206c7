# SPDX-License-Identifier: Apache-2.0
"""The kernel images on the ESP, and their copy for a firmware that has forgotten its entries.

The one that was started was verified by the firmware: the other is made like it when it differs.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

from metropolis.node.slots.model import Slot

FALLBACK: Final = "EFI/BOOT/BOOTX64.EFI"
_CHUNK_BYTES: Final = 1 << 20


def slot_path(slot: Slot) -> str:
    """Return the path of a slot's kernel image on the ESP."""
    return f"EFI/metropolis/{slot.file_name}"


def mend_copy(esp: Path, slot: Slot, *, started_by_fallback: bool) -> str:
    """Make the two copies of the running kernel image equal; return what was done, if anything.

    Raises:
        OSError: the ESP is full or does not work.
    """
    good, copy = esp / slot_path(slot), esp / FALLBACK
    if started_by_fallback:
        good, copy = copy, good
    if _is_equal(good, copy):
        return ""
    _copy(good, copy)
    return f"{copy.relative_to(esp)} was not {good.relative_to(esp)}: it was replaced"


def _is_equal(first: Path, second: Path) -> bool:
    try:
        if first.stat().st_size != second.stat().st_size:
            return False
        with first.open("rb") as one, second.open("rb") as other:
            while chunk := one.read(_CHUNK_BYTES):
                if chunk != other.read(_CHUNK_BYTES):
                    return False
    except OSError:
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    """Replace a file so that a power cut leaves the old one or the new one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name("NEW.EFI")
    try:
        with source.open("rb") as original, temporary.open("wb") as copy:
            while chunk := original.read(_CHUNK_BYTES):
                copy.write(chunk)
            copy.flush()
            os.fsync(copy.fileno())
        temporary.replace(target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
