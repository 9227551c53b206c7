# SPDX-License-Identifier: Apache-2.0
"""The cluster's control plane: who is a node, in which state, with which roles.

Refuses sockets (the transport is an argument), and to be clever without agreement: whatever is
true about a cluster is in its store, everything else can be thrown away at any time.

    lifecycle    states of a node, one table                             pure
    planner/     decisions: roles, policies, labels, health, merging     pure
    filters      which nodes a CEL expression selects
    state/       what is stored, and the only code that writes it
    leader       what exists only while this node leads; its parts:
                 cache (decoded records), gate (confirmed reads), tenure (calls that end with it),
                 members (changes to the consensus), sync (roles follow members),
                 retire, retiring (decommissions, and what is said of them meanwhile),
                 auditor (who acts; refusals that enter the audit log, by way of `doorman`)
    services/    AAA, Management, Curator, CuratorLocal, Introspection, Users
    access       which users servers admit: the leader's table, and what other nodes heard of it
    scrub        what members do so that deleted secrets leave their disks
    office       who answers on this node: the leader, a pointer to it, or nobody
    curator      the runnable: one listener, whoever leads

            caller ──▶ curator ──▶ services ──▶ planner, lifecycle   what shall be
                          │            │
                          │            ├──▶ state ──▶ store           guarded by the election key
                election ─┘            └──▶ leader's cache            read when confirmed

Invariants: a write happens only while its author leads; a read never shows less than what was
acknowledged before it was asked for; no secret leaves the store but to whom it belongs.
"""
