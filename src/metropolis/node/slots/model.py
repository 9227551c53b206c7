# SPDX-License-Identifier: Apache-2.0
"""The two slots, and what is remembered about starting them."""

import enum
import re
from dataclasses import dataclass
from typing import Final

VARIABLE: Final = "MetropolisBoot"
VENDOR: Final = "5c7e5d2c-3b7a-4f0e-9d55-6d6574726f70"  # of our own variables
_TEXT: Final = re.compile(
    r"1 confirmed=([AB-]) trying=([AB-]) started=([AB-]) attempts=([0-9]{1,3}) failed=([AB-])"
)


class Slot(enum.Enum):
    """A place for a system."""

    A = "A"
    B = "B"

    @property
    def other(self) -> "Slot":
        """The other one."""
        return Slot.B if self is Slot.A else Slot.A

    @property
    def file_name(self) -> str:
        """Of its kernel image, in EFI/metropolis of the ESP."""
        return f"boot-{self.value.lower()}.efi"

    @property
    def description(self) -> str:
        """Of its entry in the firmware."""
        return f"Metropolis {self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootRecord:
    """What is remembered from boot to boot.

    Attributes:
        confirmed: The slot that last made this machine a member of its cluster.
        trying: The slot that is to be started once.
        started: The slot that `attempts` counts.
        attempts: Its starts since the last confirmation.
        failed: The slot whose try was not confirmed, until one is.
    """

    confirmed: Slot | None = None
    trying: Slot | None = None
    started: Slot | None = None
    attempts: int = 0
    failed: Slot | None = None


def encode(record: BootRecord) -> bytes:
    """Return the value of the variable: text, for whoever looks at it with other tools."""
    return (
        f"1 confirmed={_letter(record.confirmed)} trying={_letter(record.trying)} "
        f"started={_letter(record.started)} attempts={min(record.attempts, 999)} "
        f"failed={_letter(record.failed)}"
    ).encode("ascii")


def decode(data: bytes | None) -> BootRecord:
    """Read the variable; nothing, or what we do not understand, is a fresh start."""
    found = _TEXT.fullmatch((data or b"").decode("ascii", "replace"))
    if found is None:
        return BootRecord()
    confirmed, trying, started, attempts, failed = found.groups()
    return BootRecord(
        confirmed=_slot(confirmed),
        trying=_slot(trying),
        started=_slot(started),
        attempts=int(attempts),
        failed=_slot(failed),
    )


def _letter(slot: Slot | None) -> str:
    return "-" if slot is None else slot.value


def _slot(letter: str) -> Slot | None:
    return None if letter == "-" else Slot(letter)
