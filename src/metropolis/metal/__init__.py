# SPDX-License-Identifier: Apache-2.0
"""The bare-metal control plane: machines, switches, networks and who may use them.

One program (`metropolis metal serve`), any number of replicas, one database: SQLite in a file by
default, PostgreSQL when told. It imports nothing of the cluster and the cluster nothing of it.

    metalctl, metal_python, …            hammer, metal-core, BMC agents
          │ REST v1 (http/)                    │ gRPC over mutual TLS (boot/, messages/)
          └──────────────┬─────────────────────┘
                  services/      one function per thing that can be done, inside a transaction
                  │      │
              rules/   ipam/ masterdata/        pure decisions; address and tenant books
                  └──────┴── store/             entities, revisions, outbox; SQLite | PostgreSQL

Refuses: state outside the database. Whatever a replica holds in memory it can lose: a machine
that waits, a consumer that reads messages and a client that lists all find their place again.

Invariants: one change is one transaction, with the messages it sends; nobody writes at the same
time as somebody else, except where only one row can be touched (events, address books);
`model/` are the shapes on the wire and in the store, by entity.
"""
