# SPDX-License-Identifier: Apache-2.0
"""Putting the system on a machine's disk, from an install medium, without anybody's hands.

Refuses to ask questions: what it does follows from the machine, the medium and the rules in
`target`, and all of it is printed before it is done. Refuses to boot anything unsigned: a machine
without Secure Boot in our keys is given them, or is left alone.

Invariants: the same medium writes the same bytes to the same disk, so an installation that was
interrupted at any byte is done again from the start and nothing of the first try is missed; the
partition table comes last, so that a half written disk never looks like a system; an enrolled
node is never overwritten unless the medium was made for that.

    entry        where process 1 hands over; the real machine
    run          one start of a medium, in order
    medium       what lies on it, checked whole before anything is erased
    secure_boot  whether the firmware enforces our keys; enrolling them
    inspection   what is on a disk
    target       which disk, by stated rules (pure)
    disk         the layout of a node's disk, and writing it; `mark` of an unfinished one
    boot_entry   the firmware's entry for it

    firmware ──► install medium ──► secure_boot: keys enrolled? ── no ─► enrol, reboot
                                        │ yes, and SecureBoot=1
                                        ▼
                 target (pure): which disk? ──► disk: plan, write, table last
                                        │
                                        ▼
                 firmware entries: Boot####, BootOrder, BootNext ──► reboot
"""
