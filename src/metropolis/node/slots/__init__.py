# SPDX-License-Identifier: Apache-2.0
"""Two systems on one disk: which is started, which is being tried, and how to come back.

Refuses to trust a system that has not proven itself: only a node that is a member of its cluster
again confirms the system it runs.

    slot A    SYSTEM-A partition, EFI/metropolis/boot-a.efi, firmware entry "Metropolis A"
    slot B    SYSTEM-B partition, EFI/metropolis/boot-b.efi, firmware entry "Metropolis B"

                      try once: BootNext
      CONFIRMED ──────────────────────────▶ TRYING the other slot
       ▲    ▲                                 │            │
       │    └── it is confirmed: BootOrder ───┘            │ it is started once; whatever resets the
       │                                                   │ machine starts the confirmed one again
       └───────────────────────────────────────────────────┘
      CONFIRMED, started three times without being confirmed ──▶ the other slot is started, if there
                                                                 is an image in it

Invariants: a boot is counted before anything of the system it starts runs; what is written survives
a power cut at any moment, since each variable is written whole; EFI/BOOT/BOOTX64.EFI, which the
firmware starts when it has forgotten its entries, is a copy of the confirmed kernel image.

    model      slots and the record of boots, as one small EFI variable of ours
    lifecycle  what happens to the record, as pure rules
    firmware   the record and the entries, in the firmware's variables
    kernels    the files on the ESP
"""
