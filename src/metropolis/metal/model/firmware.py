# SPDX-License-Identifier: Apache-2.0
"""Firmware: revisions of BIOS and BMC by vendor and board."""

from typing import Literal, TypeAlias

from msgspec import Struct, field

FirmwareKind: TypeAlias = Literal["bios", "bmc"]


class FirmwareQuery(Struct, frozen=True, kw_only=True):
    """Which firmware is asked for: of a machine's board, or by kind, vendor and board."""

    machine_id: str = field(name="machine-id", default="")
    kind: str = ""
    vendor: str = ""
    board: str = ""


class MachineUpdateFirmwareRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `updateFirmware` takes."""

    kind: FirmwareKind
    revision: str
    description: str | None = None


class BoardRevisions(Struct, frozen=True, kw_only=True):
    """Revisions by board."""

    by_board: dict[str, list[str]] = field(name="BoardRevisions")


class VendorRevisions(Struct, frozen=True, kw_only=True):
    """Revisions by vendor and board."""

    by_vendor: dict[str, BoardRevisions] = field(name="VendorRevisions")


class FirmwaresResponse(Struct, frozen=True, kw_only=True):
    """Revisions by kind, vendor and board."""

    revisions: dict[str, VendorRevisions]
