# SPDX-License-Identifier: Apache-2.0
"""The books of addresses, prefixes and numbers: what is taken, what is free, never both.

    namespaces   isolate prefixes that may overlap each other
    prefixes     top-level prefixes, children cut out of them, usage
    addresses    single addresses of a prefix
    pools        integers: VRF ids and AS numbers
    blocks       arithmetic of prefixes, pure
    free_blocks  what of a parent is free, as rows
    dialect      where the best statement differs
    desk         addresses for many callers in one transaction
    claims       the same in one statement, exactly once even if its answer is lost
    dump         a namespace as a text
    server       the same as a gRPC service, usable without the rest

Everything happens inside the caller's transaction, so a network whose creation fails half-way
leaves nothing behind.

    prefix row ── holds nothing | children | addresses
        │               │                     │
        │          free blocks           address rows: taken or free
        │       (split like buddies)    up to the mark, none above it but specific ones

A prefix offers addresses in small batches: rows up to its *mark* exist and are taken or free, so
taking one is one statement on one row, which writers beside each other skip when it is locked.
Only who finds none free moves the mark, holding the row of the prefix. A parent keeps its free
blocks as rows, so cutting a child costs the logarithm of its size however many there are.

Refuses: overlap inside a namespace; children and addresses in one prefix; deleting what is used.
The first address of a prefix is never handed out, nor is the last of an IPv4 prefix.
"""
