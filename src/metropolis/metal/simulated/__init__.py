# SPDX-License-Identifier: Apache-2.0
"""Machines without hardware: what they say and do, over the same calls as real ones.

    BmcAgent ◄── messages ── control plane ◄── Dhcp, Register, Wait, Report, events ── Machine
       └────────── power, boot order ─────────────────────────────────────────────────►┘

    blueprint   what a machine is made of, and how it describes itself
    machine     a board with a power switch, a boot order, a disk, and what runs on it
    agent       the BMC agent of the partition
    fleet       some of them beside a replica, over real connections

For demonstrations (`metropolis metal serve --machines N`) and for tests, where they run in virtual
time and misbehave by a seed. They say what they have to say by gRPC, and are told only through the
messages of their partition; who reads for them whose they are, as the REST API tells, is an
argument.

Refuses: to write anything by another way than real machines.
"""
