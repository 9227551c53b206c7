# SPDX-License-Identifier: Apache-2.0
"""Machines without hardware: what they say and do, over the same calls as real ones.

    BmcAgent ◄── messages ── control plane ◄── Dhcp, Register, Wait, Report, events ── Machine
       └────────── power, boot order ─────────────────────────────────────────────────►┘

For demonstrations (`metropolis metal serve --machines N`) and for tests, where they run in virtual
time and misbehave by a seed. They know the control plane only by its calls and are told by it
only through the messages of their partition.

Refuses: short cuts into the database.
"""
