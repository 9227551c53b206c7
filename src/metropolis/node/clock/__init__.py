# SPDX-License-Identifier: Apache-2.0
"""The time of a machine: where the clock starts, and who keeps it right.

Refuses to gate anything: enrolment and join rest on keys and nonces, never on dates, so that a
machine whose clock is ten years wrong comes up, and is put right by the network.

Invariants: the clock never starts before the image was built, nor before a time that was once
known to be right; what is saved is a time that chrony vouched for, or, where the hardware clock
does not run, the furthest that this machine has come.

    hardware clock ─┐
    build time ─────┼─ the latest ──▶ wall clock ◀── chronyd ◀── servers: DHCP's, or the pool
    saved time ─────┘                     └── keeper: every hour and at the end ──▶ saved time
"""
