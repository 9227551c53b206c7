# SPDX-License-Identifier: Apache-2.0
"""Entities, what they are found by, and their bounded history."""

from typing import Final

from metropolis.metal.store.migrations.step import Migration

ENTITIES: Final = Migration(
    name="entities",
    statements=(
        """CREATE TABLE entity (
            kind {text} NOT NULL, id {text} NOT NULL, revision {integer} NOT NULL,
            created {integer} NOT NULL, changed {integer} NOT NULL, doc {text} NOT NULL,
            PRIMARY KEY (kind, id))""",
        """CREATE TABLE facet (
            kind {text} NOT NULL, name {text} NOT NULL, value {text} NOT NULL, id {text} NOT NULL,
            is_unique boolean NOT NULL,
            PRIMARY KEY (kind, name, value, id)) {clustered}""",
        "CREATE UNIQUE INDEX facet_unique ON facet (kind, name, value) WHERE is_unique",
        "CREATE INDEX facet_of ON facet (kind, id)",
        """CREATE TABLE change (
            revision {integer} NOT NULL, kind {text} NOT NULL, id {text} NOT NULL,
            operation {text} NOT NULL,
            PRIMARY KEY (revision, kind, id)) {clustered}""",
        """CREATE TABLE kind_revision (
            kind {text} PRIMARY KEY, revision {integer} NOT NULL) {clustered}""",
        """CREATE TABLE counter (
            name {text} PRIMARY KEY, value {integer} NOT NULL) {clustered}""",
        """CREATE TABLE indexed_kind (
            kind {text} PRIMARY KEY, facets {text} NOT NULL) {clustered}""",
        "INSERT INTO counter (name, value) VALUES ('revision', 0), ('change_floor', 0)",
    ),
    postgres=(
        # What the last transaction of each connection was: tells whether a lost commit was made.
        # The number of a transaction cannot: after a crash the server gives those out again that
        # had not reached the disk.
        """CREATE TABLE outcome (
            session uuid PRIMARY KEY, number bigint NOT NULL, at bigint NOT NULL)
            WITH (fillfactor = 50)""",
        # Documents are read far more often than written: keep them in the row, uncompressed.
        "ALTER TABLE entity ALTER COLUMN doc SET STORAGE EXTERNAL",
        "ALTER TABLE entity SET (toast_tuple_target = 8160, fillfactor = 80)",
        # One row that every writer changes: leave room, so that its versions stay on its page.
        "ALTER TABLE counter SET (fillfactor = 10, autovacuum_vacuum_threshold = 1000)",
        "ALTER TABLE kind_revision SET (fillfactor = 10)",
    ),
)
