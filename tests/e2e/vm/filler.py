# SPDX-License-Identifier: Apache-2.0
"""What runs inside a machine, with a node's disk: fills its data partition, or empties it again.

DO is in the environment; /dev/vdb is the disk, and its data partition is not encrypted.
"""

import asyncio
import os
import sys
from pathlib import Path

from metropolis.host.linux.block_devices import partitions_of
from metropolis.host.linux.file_systems import LinuxFileSystems

DATA = Path("/run/data")
FILLER = DATA / "filler"
DATA_TYPE = "9eeec464-6885-414a-b278-4305c51f7966"


def fill() -> None:
    """Leave no byte free."""
    with FILLER.open("wb", buffering=0) as file:
        for step_bytes in (1 << 26, 1 << 20, 1 << 12):
            while True:
                end = os.fstat(file.fileno()).st_size
                try:
                    os.posix_fallocate(file.fileno(), end, step_bytes)
                except OSError:
                    break


def free_mib() -> int:
    found = os.statvfs(DATA)
    return found.f_bavail * found.f_frsize >> 20


async def main() -> None:
    device = next(each.device for each in partitions_of("vdb") if each.type_guid == DATA_TYPE)
    await LinuxFileSystems().mount(device, str(DATA), "xfs", flags=("nodev",), options="pquota")
    reserve_mib = (DATA / "reserve").stat().st_size >> 20
    sys.stdout.write(f"free before: {free_mib()} MiB, reserve {reserve_mib} MiB\n")
    {"fill": fill, "empty": FILLER.unlink}[os.environ["DO"]]()
    os.sync()
    sys.stdout.write(f"free now: {free_mib()} MiB\n")
    await LinuxFileSystems().unmount(str(DATA))


asyncio.run(main())
