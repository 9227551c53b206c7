# SPDX-License-Identifier: Apache-2.0
"""What the initrd tells process 1, which is the same process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metropolis.host.linux.block_devices import FoundPartition
from metropolis.host.linux.watchdog import LinuxWatchdog
from metropolis.node.boot.timeline import Timeline
from metropolis.node.slots.firmware import SlotKeeper


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """Facts of this boot.

    Attributes:
        options: Of the signed kernel command line.
        system_partition: Where the root file system is.
        boot_guid: GUID of the partition that the firmware loaded the kernel from; None where no
            firmware says so.
        slots: Counts this boot; None on a machine without firmware variables, or when no slot was
            started but an install medium.
        watchdog: Armed; None where none is known yet.
        notes: What was noticed so far, for the log.
    """

    timeline: Timeline
    options: Mapping[str, str]
    system_partition: FoundPartition
    boot_guid: str | None
    slots: SlotKeeper | None = None
    watchdog: LinuxWatchdog | None = None
    notes: Sequence[str] = ()
