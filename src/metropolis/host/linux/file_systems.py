# SPDX-License-Identifier: Apache-2.0
"""File systems on block devices, mounted in the loop's executor: a log replay takes seconds."""

import asyncio
import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

from metropolis.base.errors import (
    FailedPreconditionError,
    ResourceExhaustedError,
    UnavailableError,
)
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
# linux/xfs_fs.h: _IOR('X', 100, struct xfs_fsop_geom_v1), _IOW('X', 110, struct xfs_growfs_data)
_XFS_IOC_FSGEOMETRY_V1: Final = 0x80705864
_GEOMETRY_BYTES: Final = 112
_DATA_BLOCKS_AT: Final = 32  # after eight numbers of four bytes
_XFS_IOC_FSGROWFSDATA: Final = 0x4010586E
_INODES_PERCENT_MAX: Final = 25  # what mkfs.xfs gives a small file system
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

    async def zero(self, device: str, *, offset_bytes: int, size_bytes: int) -> None:
        """Write zeros to a range of a device, durably; also while another range is mounted.

        Raises:
            UnavailableError: the device fails.
        """

        def work() -> None:
            with RawDisk(device, writable=True) as disk:
                disk.zero(offset_bytes, size_bytes)
                disk.flush()

        try:
            await asyncio.get_running_loop().run_in_executor(None, work)
        except OSError as cause:
            raise _broken(device, cause) from cause

    async def device_bytes(self, device: str) -> int:
        """How large a device is.

        Raises:
            UnavailableError: there is no such device.
        """
        try:
            with RawDisk(device, writable=False) as disk:
                return disk.size_bytes
        except OSError as cause:
            raise _broken(device, cause) from cause

    async def usage(self, target: str) -> tuple[int, int]:
        """How much of its device a mounted XFS uses, and how much of that is free, in bytes."""
        return await asyncio.get_running_loop().run_in_executor(None, _usage, target)

    async def file_bytes(self, path: str) -> int | None:
        """How large a file is; None when there is none."""

        def work() -> int | None:
            try:
                return Path(path).lstat().st_size
            except FileNotFoundError:
                return None

        return await asyncio.get_running_loop().run_in_executor(None, work)

    async def set_file_bytes(self, path: str, size_bytes: int) -> None:
        """Make a file as large as that, durably, and have the disk keep room for all of it.

        Raises:
            ResourceExhaustedError: there is not so much room. The file is empty, then.
        """
        try:
            await asyncio.get_running_loop().run_in_executor(
                None, _set_file_bytes, path, size_bytes
            )
        except OSError as cause:
            if cause.errno != errno.ENOSPC:
                raise
            raise ResourceExhaustedError(
                f"there is no room for the {size_bytes} bytes of {path}",
                remedy="Use a larger disk.",
            ) from cause

    async def grow_xfs(self, target: str, size_bytes: int) -> None:
        """Let a mounted XFS use more of its device.

        Raises:
            FailedPreconditionError: the kernel refuses.
        """
        await asyncio.get_running_loop().run_in_executor(None, _grow_xfs, target, size_bytes)


def _usage(target: str) -> tuple[int, int]:
    directory = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        geometry = fcntl.ioctl(directory, _XFS_IOC_FSGEOMETRY_V1, bytes(_GEOMETRY_BYTES))
        found = os.fstatvfs(directory)
    finally:
        os.close(directory)
    (blocks,) = struct.unpack_from("=Q", geometry, _DATA_BLOCKS_AT)
    return blocks * found.f_bsize, found.f_bavail * found.f_frsize


def _set_file_bytes(path: str, size_bytes: int) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        try:
            if size_bytes:
                os.posix_fallocate(descriptor, 0, size_bytes)
            os.ftruncate(descriptor, size_bytes)
        except OSError:
            os.ftruncate(descriptor, 0)  # what was found of the room is given back
            raise
        finally:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _grow_xfs(target: str, size_bytes: int) -> None:
    block_bytes = os.statvfs(target).f_bsize
    request = struct.pack("=QIxxxx", size_bytes // block_bytes, _INODES_PERCENT_MAX)
    directory = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(directory, _XFS_IOC_FSGROWFSDATA, request)
    except OSError as cause:
        raise FailedPreconditionError(
            f"the file system at {target} cannot be made larger: {cause.strerror}",
            remedy="Look at the machine's kernel log.",
        ) from cause
    finally:
        os.close(directory)


def _broken(device: str, cause: OSError) -> UnavailableError:
    return UnavailableError(
        f"the disk {device} fails: {cause.strerror}",
        remedy="Check the disk and its cable; if it is broken, replace it.",
    )


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
