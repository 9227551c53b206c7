# SPDX-License-Identifier: Apache-2.0
"""Where a firmware is kept: `<kind>/<vendor lower>/<BOARD upper>/<revision>`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, get_args

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.model.firmware import (
    BoardRevisions,
    FirmwareKind,
    FirmwaresResponse,
    VendorRevisions,
)

KINDS: Final[tuple[FirmwareKind, ...]] = get_args(FirmwareKind)
LENGTH_MAX: Final = 128
_LEVELS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """One revision for one board; made by `firmware`, which judges and spells it."""

    kind: str
    vendor: str
    board: str
    revision: str

    @property
    def key(self) -> str:
        """Of the object."""
        return f"{self.kind}/{self.vendor}/{self.board}/{self.revision}"


def firmware(*, kind: str, vendor: str, board: str, revision: str) -> Firmware:
    """Name a firmware.

    Raises:
        InvalidArgumentError: the kind is unknown, or a name is none.
    """
    for field, text in (("vendor", vendor), ("board", board), ("revision", revision)):
        if not _is_name(text):
            raise InvalidArgumentError(
                f"{field}: {text[:LENGTH_MAX]!r} is none",
                remedy=f"Use 1 to {LENGTH_MAX} printable characters, without slashes.",
            )
    return Firmware(
        kind=check_kind(kind), vendor=vendor.lower(), board=board.upper(), revision=revision
    )


def check_kind(kind: str) -> str:
    """Return a kind of firmware.

    Raises:
        InvalidArgumentError: there is no such kind.
    """
    if kind not in KINDS:
        raise InvalidArgumentError(
            f"kind: there is no {kind[:40]!r}", remedy=f"Name one of {', '.join(KINDS)}."
        )
    return kind


def _is_name(text: str) -> bool:
    return (
        0 < len(text) <= LENGTH_MAX
        and text.isprintable()
        and "/" not in text
        and text.strip() == text
        and text not in (".", "..")
    )


def revisions(
    keys: Iterable[str], *, kind: str = "", vendor: str = "", board: str = ""
) -> FirmwaresResponse:
    """Arrange the keys of objects, of a kind, vendor and board only where these are named."""
    found: dict[str, dict[str, dict[str, list[str]]]] = {
        each: {} for each in KINDS if kind in ("", each)
    }
    for key in sorted(keys):
        parts = key.split("/")
        if len(parts) != _LEVELS or parts[0] not in found:
            continue
        _, its_vendor, its_board, revision = parts
        if vendor.lower() in ("", its_vendor) and board.upper() in ("", its_board):
            boards = found[parts[0]].setdefault(its_vendor, {})
            boards.setdefault(its_board, []).append(revision)
    return FirmwaresResponse(
        revisions={
            each: VendorRevisions(
                by_vendor={name: BoardRevisions(by_board=boards) for name, boards in by.items()}
            )
            for each, by in found.items()
        }
    )
