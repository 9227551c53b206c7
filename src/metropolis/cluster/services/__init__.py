# SPDX-License-Identifier: Apache-2.0
"""What the control plane answers. Thin: read, ask `lifecycle` or `planner`, write, answer.

Handlers are functions of (leader, request, peer) or (leader, stream); only `curator_local` answers
without a leader. `registry` binds each to its method and to the tenure it was called in.

    aaa            Escrow: the owner's certificate
    user_escrow    Escrow: other users' certificates, by password or by renewal
    users, grants  users and groups: who they are, what they may do; `accounts` is what these share
    owner_key      the owner's key is replaced
    whoami         who one is, what one may do, and the table of users for nodes
    management     what operators do to cluster and nodes
    nodes          which nodes there are
    enrolment      how a machine becomes a member and comes back
    tickets        how the ticket that admits machines is replaced
    decommission   how a node is taken out of service, and says goodbye
    curator        what members tell and ask the cluster
    watch          nodes as they are, then as they change
    introspection  why a node is not ready
    audit          who changed what
    curator_local  who leads

Refuses to log requests: they carry secrets. Invariants: every error is a `MetropolisError`; every
handler may be repeated after a lost reply.
"""
