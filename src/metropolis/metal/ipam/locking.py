# SPDX-License-Identifier: Apache-2.0
"""How rows are held against writers beside this one: PostgreSQL locks them, SQLite has one writer.

The functions return the end of a query, never anything a caller wrote.
"""

from metropolis.metal.store import Reader


def for_update(reader: Reader) -> str:
    """Wait for the rows, then hold them until the commit."""
    return " FOR UPDATE" if reader.dialect == "postgres" else ""


def skip_locked(reader: Reader) -> str:
    """Hold those rows that nobody else holds, and pass over the others."""
    return " FOR UPDATE SKIP LOCKED" if reader.dialect == "postgres" else ""
