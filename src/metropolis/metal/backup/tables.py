# SPDX-License-Identifier: Apache-2.0
"""Which tables a schema has, and which of them a backup holds."""

import re
from collections.abc import Sequence
from typing import Final

from metropolis.metal.store.migrations import Migration
from metropolis.metal.store.queries import Dialect

# What follows from other tables, or is history that a restore ends.
DERIVED: Final = frozenset({"facet", "indexed_kind", "change", "outcome"})
# Rows that an empty database has.
FURNITURE: Final = DERIVED | {"counter", "ipam_namespace"}
# Far more than any control plane counts between a backup and the loss of its database: whatever
# was given out since then is never given out again for something else.
JUMP: Final = 1_000_000
AFTER_LOADING: Final = (
    f"UPDATE counter SET value = value + {JUMP} WHERE name = 'revision'",  # noqa: S608  # a number
    (
        "INSERT INTO counter (name, value) SELECT 'change_floor', value FROM counter"
        " WHERE name = 'revision' ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    ),
    "UPDATE kind_revision SET revision = (SELECT value FROM counter WHERE name = 'revision')",
    f"UPDATE outbox_topic SET last = last + {JUMP}",  # noqa: S608  # a number
)

_CREATED: Final = re.compile(r"\s*CREATE TABLE (?:IF NOT EXISTS )?(\w+)")
_DROPPED: Final = re.compile(r"\s*DROP TABLE (\w+)")


def tables_of(migrations: Sequence[Migration], dialect: Dialect) -> list[str]:
    """Return the tables that these steps leave, sorted."""
    names: set[str] = set()
    for migration in migrations:
        for statement in migration.of(dialect):
            if created := _CREATED.match(statement):
                names.add(created[1])
            elif dropped := _DROPPED.match(statement):
                names.discard(dropped[1])
    return sorted(names)
