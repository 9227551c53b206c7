# SPDX-License-Identifier: Apache-2.0
"""What tenants, projects and memberships were.

`at` is in microseconds since 1970, UTC; `number` counts the changes of one entity.
"""

from typing import Final

from metropolis.metal.store.migrations.step import Migration

MASTERDATA: Final = Migration(
    name="masterdata",
    statements=(
        """CREATE TABLE masterdata_history (
            kind {text} NOT NULL, id {text} NOT NULL, number {integer} NOT NULL,
            at {integer} NOT NULL, operation {text} NOT NULL, doc {text} NOT NULL,
            PRIMARY KEY (kind, id, number)) {clustered}""",
        "CREATE INDEX masterdata_history_at ON masterdata_history (kind, id, at)",
    ),
)
