# SPDX-License-Identifier: Apache-2.0
"""Where the best statement differs: PostgreSQL holds rows and knows how many there are.

SQLite has one writer at a time, so nothing need be held; and it does not know that few addresses
are free, so it must be told which index is short. The functions return parts of a query, never
anything a caller wrote.
"""

from typing import Literal

from metropolis.metal.store import Reader


def for_update(reader: Reader) -> str:
    """Wait for the rows, then hold them until the commit."""
    return " FOR UPDATE" if reader.dialect == "postgres" else ""


def skip_locked(reader: Reader) -> str:
    """Hold those rows that nobody else holds, and pass over the others."""
    return " FOR UPDATE SKIP LOCKED" if reader.dialect == "postgres" else ""


def by_index(reader: Reader, index: Literal["ipam_integer_free"]) -> str:
    """Use this index."""
    return f" INDEXED BY {index}" if reader.dialect == "sqlite" else ""
