# SPDX-License-Identifier: Apache-2.0
"""A model of etcd that runs inside the process: the verified twin that serves the simulation.

Passes the contract tests of the real store. Refuses to be a Raft: there is one truth, and the
members decide only who may touch it. Deterministic: time is the running loop's, delays and lost
replies are the simulator's, and nothing is iterated in an order that memory addresses decide.

    MemoryStore, MemoryMembership   client.py: bound to one member, as a node is to its own etcd
              |
    MemoryCluster                   cluster.py: raft leader, lease clocks, watches, faults
         |            |
    Keyspace        Roster          pure: keyspace.py (revisions, transactions, history)
                                          roster.py (members, learners, quorum rules)

Invariants: a reply is sent only for what a quorum could have committed; a watch sees every
revision once, in order, and never more than its member has applied; leases expire only while
there is a leader, and a new leader grants each of them its whole time again.
"""
