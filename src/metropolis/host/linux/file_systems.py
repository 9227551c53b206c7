# SPDX-License-Identifier: Apache-2.0
"""File systems on block devices, mounted in the loop's executor: a log replay takes seconds."""

import asyncio
import ctypes
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

from metropolis.base.errors import FailedPreconditionError, UnavailableError
from metropolis.host.linux.mounts import (
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    mount_device,
)
from metropolis.host.linux.raw_disk import RawDisk

_FLAGS: Final = {
    "nodev": MS_NODEV,
    "noexec": MS_NOEXEC,
    "nosuid": MS_NOSUID,
    "ro": MS_RDONLY,
}
_MNT_DETACH: Final = 2  # sys/mount.h: out of the tree now, closed when the last user is gone

_libc: Final = ctypes.CDLL(None, use_errno=True)


@final
class LinuxFileSystems:
    """Mounts are those of this process's mount namespace."""

    async def mount(
        self, device: str, target: str, kind: str, *, flags: Sequence[str], options: str = ""
    ) -> None:
        """Mount a device at a directory, which is created if it is missing.

        Raises:
            FailedPreconditionError: the kernel refuses.
        """
        bits = sum(_FLAGS[each] for each in flags)

        def work() -> None:
            place = Path(target)
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            mount_device(device, place, kind, flags=bits, options=options)

        await asyncio.get_running_loop().run_in_executor(None, work)

    async def unmount(self, target: str) -> None:
        """Unmount a directory, for whoever still uses it, too. Nothing mounted there is fine."""
        await asyncio.get_running_loop().run_in_executor(None, _unmount, target)

    async def zero(self, device: str) -> None:
        """Make a whole device read as zeros.

        Raises:
            UnavailableError: the device fails, or somebody uses it.
        """
        try:
            await asyncio.get_running_loop().run_in_executor(None, _zero, device)
        except OSError as cause:
            raise UnavailableError(
                f"cannot overwrite {device}: {cause.strerror}",
                remedy="Check that the disk works; if it is broken, destroy it.",
            ) from cause


def _zero(device: str) -> None:
    with RawDisk(device, writable=True, exclusive=True) as disk:
        disk.zero(0, disk.size_bytes)
        disk.flush()


def _unmount(target: str) -> None:
    path = ctypes.c_char_p(os.fsencode(target))
    if _libc.umount2(path, 0) == 0:
        return
    if ctypes.get_errno() == errno.EBUSY and _libc.umount2(path, _MNT_DETACH) == 0:
        return
    if ctypes.get_errno() not in (errno.EINVAL, errno.ENOENT):
        raise FailedPreconditionError(
            f"cannot unmount {target}: {os.strerror(ctypes.get_errno())}",
            remedy="Run as root, on a machine or in a container with CAP_SYS_ADMIN.",
        )
