# SPDX-License-Identifier: Apache-2.0
"""Writes a log of measurements as a firmware does."""

import struct
from collections.abc import Iterable
from uuid import UUID

from metropolis.formats.efi import variables
from metropolis.formats.event_log import SHA256, EventKind, MeasuredEvent


def firmware_log(events: Iterable[MeasuredEvent]) -> bytes:
    """The log of these events; they have SHA-256 digests only."""
    specification = b"Spec ID Event03\0" + struct.pack(
        "<IBBBBIHHB", 0, 0, 2, 0, 2, 1, SHA256, 32, 0
    )
    log = struct.pack("<II", 0, EventKind.NO_ACTION) + bytes(20)
    log += struct.pack("<I", len(specification)) + specification
    for event in events:
        log += struct.pack("<IIIH", event.register, event.kind, 1, SHA256)
        log += event.digests[SHA256] + struct.pack("<I", len(event.data)) + event.data
    return log


def variable_event(name: str, digest: bytes, *, vendor: UUID = variables.GLOBAL) -> MeasuredEvent:
    """The measurement of a variable into PCR 7."""
    data = vendor.bytes_le + struct.pack("<QQ", len(name), 0) + name.encode("utf-16-le")
    return MeasuredEvent(
        register=7, kind=EventKind.VARIABLE_DRIVER_CONFIG, digests={SHA256: digest}, data=data
    )
