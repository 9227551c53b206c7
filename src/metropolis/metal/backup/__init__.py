# SPDX-License-Identifier: Apache-2.0
"""Backups of the control plane's database: made, kept, proven and restored.

    database ──source──> rows ──file──> compressed, encrypted ──shelf──> directory | S3
                                             │
          scratch SQLite <──target── rehearsal of a restore: nothing counts before it
                                             │
    empty database <───target────────────────┘   before serving, or on demand

A backup holds rows, not files of a database: one of SQLite can be restored into PostgreSQL and the
other way round. It is one consistent snapshot of every table but those that follow from others
(facets, history of changes).

Refuses: to back up an empty database (it would push good backups out), to restore into one that
is not empty, to hand out a row of a file that is damaged, to go back to an older release.

Invariants: whoever restores finds revisions and message numbers far above all that was ever
given out, so that no client takes old things for new ones; a backup is deleted only after a newer
one was proven.
"""
