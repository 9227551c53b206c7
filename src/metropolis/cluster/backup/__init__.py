# SPDX-License-Identifier: Apache-2.0
"""Backups of the cluster's state, and the way back from one.

    desk        what a leader does: settings, backups on demand and on schedule
    maker       one backup: every key of the store as of one revision, encrypted as it is read
    shelf       where scheduled backups lie, on a node's disk
    copies      how every member gets what the leader made
    rehearsal   a restore into a scratch store, compared with the original key by key
    content     what makes records the state of a cluster: its CA, its owner, its configuration
    restore     the first transactions of a cluster that comes back on new hardware

    store ──page by page──▶ maker ──encrypted──▶ operator, shelf
      │                       │                              │
      └──── compared with ◀── rehearsal ◀── decrypted ───────┘   while the file's key is known

Refuses to keep what could open a backup: the key of one file is forgotten when its rehearsal is
over, and the recovery key's private half never comes near the cluster.

Invariants: a backup is of one revision; generations never repeat, over restores, too; keys that
hang on leases (elections) are in no backup; what was not compared is not called verified.
"""
