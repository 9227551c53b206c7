# SPDX-License-Identifier: Apache-2.0
"""What the cluster keeps in its store, and the only code that writes it.

Refuses decisions: what may change is decided in `lifecycle` and `planner`.

    keys          where everything lies, exactly as in the original
    records       one record per node; an unreadable one never hides the others
    decommissions how far each decommission has come
    fenced        every read and write of a leader depends on its election key
    audit         no call changes anything without a record in the audit log
    accounts      users, groups, and the owner's key once it was replaced
    pki           the cluster's two certificate authorities; their keys exist nowhere else
    bootstrap     the one transaction that a cluster is born with

Invariants: a leader that lost its election changes nothing; a change that depends on something
read before is made only if that is unchanged; secrets never show in a repr, a log or an error.
"""
