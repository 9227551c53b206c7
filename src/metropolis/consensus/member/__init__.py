# SPDX-License-Identifier: Apache-2.0
"""The life of the local etcd member: files on disk, the program, its promotion, its end.

Refuses to decide who is a member (`metropolis.cluster` does), to found a consensus that was not
asked for, and to run on the data of another one.

    start       Bootstrap | Join | Restart: how a member comes to be on this node
    files       what is kept on the node's storage, and what each start writes there
    arguments   etcd's command line, one pure function
    member      EtcdMember: the runnable
    promoter    gives learners their vote, on the node whose member leads
    crl         keeps the list of refused peers on disk as new as the store's
    complaints  etcd's last words as errors with a remedy
    status      ConsensusStatus: store, membership, member id

    root.….consensus          HEALTHY once this member votes and answers a linearizable read
    ├── etcd ┐                the program, its JSON log lines as entries of this DN
    ├── watch ┘ one group     waits for the vote, publishes ConsensusStatus, takes it back
    ├── promoter
    └── crl

    Bootstrap ─▶ (wipe what was never acknowledged) ─▶ etcd, cluster state "new" ─▶ recorded
    Join      ─▶ peer certificates ─▶ etcd, "existing" ─▶ learner ─▶ promoted ─▶ recorded
    Restart   ─▶ etcd on its data

Invariants:
  * Peers speak mutual TLS under the consensus CA from the first second; a member is known by its
    key. Clients speak through one unix socket in a directory of mode 0700.
  * Kill -9 at any moment, start again the same way, and it completes. A bootstrap whose outcome
    was never published starts over; one that was published never does.
  * Data is deleted in three cases only: such a bootstrap, `wipe`, and when the other members say
    that this one was removed for good while the node is invited anew.
"""
