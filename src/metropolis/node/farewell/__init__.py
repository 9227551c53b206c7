# SPDX-License-Identifier: Apache-2.0
"""The end of a node: wipe the machine, say so, and never be a node again.

Refuses to begin before everything else has stopped, and to stop once it has begun: the record on
the disk says how far it came, and every step may be repeated.

    record      what is written down, and outlives the wipe
    wipe        what is removed, and in which order
    runnable    wipe, report, and say at every later start what this machine is

    ACCEPTED ──wipe──▶ WIPED ──report──▶ DONE ──new node parameters──▶ a fresh machine

Invariants: the sealed configuration goes first, so that a disk whose wipe was cut off can be opened
by nobody; the key that reports is worth nothing for anything else, and goes with the report.
"""
