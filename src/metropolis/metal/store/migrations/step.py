# SPDX-License-Identifier: Apache-2.0
"""One step of the schema, for both databases."""

from dataclasses import dataclass
from typing import Final, Literal

_TYPES: Final = {
    "postgres": {
        "text": 'text COLLATE "C"',
        "bytes": "bytea",
        "integer": "bigint",
        "clustered": "",
    },
    "sqlite": {"text": "TEXT", "bytes": "BLOB", "integer": "INTEGER", "clustered": "WITHOUT ROWID"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step.

    In `statements` the words `{text}`, `{bytes}` and `{integer}` (64 bits) become the column types
    of the dialect, so that both order and compare alike; `{clustered}` after the closing
    parenthesis of a table keeps its rows in the primary key where the dialect can.

    Attributes:
        name: What it brings.
        statements: For both dialects.
        sqlite: Afterwards, for SQLite alone.
        postgres: Afterwards, for PostgreSQL alone.
    """

    name: str
    statements: tuple[str, ...] = ()
    sqlite: tuple[str, ...] = ()
    postgres: tuple[str, ...] = ()

    def of(self, dialect: Literal["sqlite", "postgres"]) -> list[str]:
        """Return the statements of a dialect, in order."""
        both = [statement.format_map(_TYPES[dialect]) for statement in self.statements]
        return [*both, *(self.sqlite if dialect == "sqlite" else self.postgres)]
