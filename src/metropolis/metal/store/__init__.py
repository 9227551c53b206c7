# SPDX-License-Identifier: Apache-2.0
"""Entities in a database: typed documents with a revision, facets to find them by, an outbox.

`sqlite` and `postgres` are twins that pass the same contract tests; `opening` opens either by its
address, `migrations` holds the schema step by step. Tables are the same in both:

    entity         kind, id, revision, created, changed, doc   one row per entity, doc is JSON
    facet          kind, name, value, id                       what `find` looks up, kept from doc
    kind_revision  kind, revision                              what caches compare, cheap to read
    change         revision, kind, id, operation               bounded history, for watchers
    counter        name, value                                 the revision; where history begins
    outbox         topic, sequence, payload                    messages, sent with a change
    consumer       topic, name, position                       how far each has been read

Writers come one after the other (`serial`, the default), so a transaction sees everything that was
decided before it and two rules can never pass by each other. A change that can only touch one row
of its own (an event of one machine, one address) may run beside the others: `serial=False`.
"""

from metropolis.metal.store.interface import (
    Change,
    Kind,
    Reader,
    Scalar,
    Store,
    Stored,
    Transaction,
)

__all__ = ["Change", "Kind", "Reader", "Scalar", "Store", "Stored", "Transaction"]
