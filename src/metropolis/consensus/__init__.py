# SPDX-License-Identifier: Apache-2.0
"""Agreement between nodes: the real etcd as a supervised member, and a client of our own for it.

Refuses to know what is stored. Never a Raft of our own: `memory` is a model of etcd's observable
behaviour (linearizable, leases, watches, compaction, members), passes the same contract tests as
the real server, and serves the simulation.

    store        Store and Membership: what callers see
    etcd/        the client over our own stubs, through a unix socket
    memory/      the verified twin
    election     leadership with a lease; the election key fences every write
    scratch      empty stores to try something out in
    mirror       a watched cache of a prefix: reads from memory that are never stale
    member/      life of the local etcd member: PKI on disk, bootstrap, join, probe, promotion
    fetch/       signed packages from a private apt root: where the real etcd comes from

      callers --> Store, Membership          one contract (tests/contract/consensus), two worlds
                    |            |
             etcd/ (real)    memory/ (twin)
                    |
        unix socket of the local member  <-- member/ keeps it running, fetch/ brought it
"""
