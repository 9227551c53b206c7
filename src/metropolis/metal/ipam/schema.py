# SPDX-License-Identifier: Apache-2.0
"""The tables of the address books, in both dialects."""

from typing import Final

# $BYTES is the dialect's binary type. Binary addresses sort as addresses do. `parent` and
# `namespace` are empty, not null, where there is none, so that they can be part of keys.
_TABLES: Final = (
    """CREATE TABLE ipam_namespace (name TEXT PRIMARY KEY)""",
    """INSERT INTO ipam_namespace (name) VALUES ('')""",
    """CREATE TABLE ipam_prefix (
        namespace TEXT NOT NULL,
        cidr TEXT NOT NULL,
        parent TEXT NOT NULL,
        family INTEGER NOT NULL,
        first $BYTES NOT NULL,
        last $BYTES NOT NULL,
        holds TEXT NOT NULL,
        mark $BYTES NOT NULL,
        PRIMARY KEY (namespace, cidr)
    )""",
    """CREATE INDEX ipam_prefix_tree ON ipam_prefix (namespace, parent, family, first)""",
    """CREATE TABLE ipam_block (
        namespace TEXT NOT NULL,
        prefix TEXT NOT NULL,
        first $BYTES NOT NULL,
        bits INTEGER NOT NULL,
        PRIMARY KEY (namespace, prefix, first)
    )""",
    """CREATE INDEX ipam_block_fit ON ipam_block (namespace, prefix, bits, first)""",
    """CREATE TABLE ipam_address (
        namespace TEXT NOT NULL,
        prefix TEXT NOT NULL,
        address $BYTES NOT NULL,
        taken BOOLEAN NOT NULL,
        PRIMARY KEY (namespace, prefix, address)
    )""",
    """CREATE INDEX ipam_address_free ON ipam_address (namespace, prefix, address)
        WHERE NOT taken""",
    """CREATE TABLE ipam_pool (name TEXT PRIMARY KEY, mark INTEGER NOT NULL)""",
    """CREATE TABLE ipam_integer (
        pool TEXT NOT NULL,
        value INTEGER NOT NULL,
        holders INTEGER NOT NULL,
        PRIMARY KEY (pool, value)
    )""",
    """CREATE INDEX ipam_integer_free ON ipam_integer (pool, value) WHERE holders = 0""",
)

SQLITE: Final = tuple(text.replace("$BYTES", "BLOB") for text in _TABLES)
POSTGRES: Final = tuple(text.replace("$BYTES", "BYTEA") for text in _TABLES)
