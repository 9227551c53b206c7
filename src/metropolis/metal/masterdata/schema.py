# SPDX-License-Identifier: Apache-2.0
"""The tables of masterdata beside its entities."""

from typing import Final

# `at` is in microseconds since 1970, UTC; `number` counts the changes of one entity.
TABLES: Final = (
    """CREATE TABLE masterdata_history (
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        number BIGINT NOT NULL,
        at BIGINT NOT NULL,
        operation TEXT NOT NULL,
        doc TEXT NOT NULL,
        PRIMARY KEY (kind, id, number)
    )""",
    """CREATE INDEX masterdata_history_at ON masterdata_history (kind, id, at)""",
)
