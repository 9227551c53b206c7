# SPDX-License-Identifier: Apache-2.0
"""What the initrd tells process 1, which is the same process."""

from collections.abc import Mapping
from dataclasses import dataclass

from metropolis.host.linux.block_devices import FoundPartition
from metropolis.node.boot.timeline import Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """Facts of this boot.

    Attributes:
        options: Of the signed kernel command line.
        system_partition: Where the root file system is.
        boot_guid: GUID of the partition that the firmware loaded the kernel from; None where no
            firmware says so.
    """

    timeline: Timeline
    options: Mapping[str, str]
    system_partition: FoundPartition
    boot_guid: str | None
