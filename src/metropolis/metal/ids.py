# SPDX-License-Identifier: Apache-2.0
"""Identifiers that Metal makes."""

import uuid
from datetime import datetime


def new_uuid7(now: datetime, random: bytes) -> str:
    """Return a UUID that sorts by time.

    Args:
        random: 10 bytes.
    """
    milliseconds = int(now.timestamp() * 1000) & ((1 << 48) - 1)
    number = (milliseconds << 80) | int.from_bytes(random)
    number = number & ~(0xF << 76) | (0x7 << 76)
    number = number & ~(0x3 << 62) | (0x2 << 62)
    return str(uuid.UUID(int=number))
