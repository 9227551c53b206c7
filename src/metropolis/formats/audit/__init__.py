# SPDX-License-Identifier: Apache-2.0
"""The audit log: a chain of records that nobody can change without being noticed.

Refuses I/O and clocks, and to decide what is worth a record.

    chain         bytes of a record, its hash, the end of the chain
    verification  whether what is stored is what was written, and if not, where and why

    record 1 ◀──hash── record 2 ◀──hash── record 3 ◀──hash── head
     zeros                                   (kept elsewhere, too: then a chain that was
                                              written anew from some record on shows)

Invariants: the hash of a record is over its bytes as stored, so one changed bit changes it and
every hash after it. The chain needs no secret; whoever can write the whole store can write a whole
new chain, and only a head that was kept elsewhere tells the two apart.
"""
