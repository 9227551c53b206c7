# SPDX-License-Identifier: Apache-2.0
"""All edges of a real machine as one value."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from metropolis.host import Host
from metropolis.host.linux.clock import LinuxClock
from metropolis.host.linux.directory import LinuxDirectory
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.host.linux.names import LinuxNames
from metropolis.host.linux.processes import LinuxProcesses

_BOOT_ID_BYTES: Final = 16


def linux_host(
    *,
    storage: Path,
    ephemeral: Path,
    hosts_path: Path,
    addresses: Sequence[str],
    measured: Path | None = None,
) -> Host:
    """Build the edges of this machine. The boot id is new with every call.

    Args:
        storage: Directory that outlives the node's restarts.
        ephemeral: Directory that the caller has emptied for this start.
        hosts_path: See `LinuxNames`.
        addresses: Literal IP addresses of this node, the external one first.
        measured: Where in the storage free space matters; all of it lies on one disk, if None.
    """
    return Host(
        clock=LinuxClock(),
        entropy=LinuxEntropy(),
        storage=LinuxDirectory(storage, measured=measured),
        ephemeral=LinuxDirectory(ephemeral),
        processes=LinuxProcesses(),
        names=LinuxNames(hosts_path=hosts_path),
        addresses=tuple(addresses),
        boot_id=os.getrandom(_BOOT_ID_BYTES),
    )
