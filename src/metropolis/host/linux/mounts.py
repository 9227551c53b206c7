# SPDX-License-Identifier: Apache-2.0
"""Mounts, for processes that have a mount namespace of their own."""

import ctypes
import os
import struct
from pathlib import Path
from typing import Final

from metropolis.base.errors import FailedPreconditionError

MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
_MS_BIND: Final = 0x1000
_MS_MOVE: Final = 0x2000
_MS_REC: Final = 0x4000
_MS_PRIVATE: Final = 1 << 18

_SYS_MOUNT_SETATTR: Final = 442  # the same on every architecture; glibc wraps it since 2.36 only
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_MOUNT_ATTR_RDONLY: Final = 0x1

_libc: Final = ctypes.CDLL(None, use_errno=True)


def keep_mounts_private() -> None:
    """Let no mount made from now on be seen outside this mount namespace, nor the reverse."""
    _mount(None, Path("/"), None, _MS_REC | _MS_PRIVATE, "")


def mount_new(kind: str, target: Path, *, flags: int = 0, options: str = "") -> None:
    """Mount a file system without a device (tmpfs, proc) on an existing directory.

    Raises:
        FailedPreconditionError: the kernel refuses; the message names the target.
    """
    _mount(kind, target, kind, flags, options)


def mount_device(
    device: str, target: Path, kind: str, *, flags: int = 0, options: str = ""
) -> None:
    """Mount the file system on a block device at an existing directory.

    Raises:
        FailedPreconditionError: the kernel refuses; the message names the target.
    """
    _mount(device, target, kind, flags, options)


def move_mount(source: Path, target: Path) -> None:
    """Move a mount, and those below it, to another existing directory.

    Raises:
        FailedPreconditionError: the kernel refuses; the message names the target.
    """
    _mount(str(source), target, None, _MS_MOVE, "")


def unmount(target: Path) -> bool:
    """Unmount what is mounted here last; False if nothing is or somebody still uses it."""
    return bool(_libc.umount2(ctypes.c_char_p(os.fsencode(target)), 0) == 0)


def enter_root(target: Path) -> None:
    """Make the file system mounted at `target` the root of this process and of its children.

    The old root stays below it where nobody can name it: pivot_root refuses the kernel's first
    root, so this is what every initrd does.

    Raises:
        FailedPreconditionError: the kernel refuses.
    """
    os.chdir(target)
    _mount(".", Path("/"), None, _MS_MOVE, "")
    os.chroot(".")
    os.chdir("/")


def bind(source: Path, target: Path) -> None:
    """Show an existing file or directory at another existing place.

    Raises:
        FailedPreconditionError: the kernel refuses; the message names the target.
    """
    _mount(str(source), target, None, _MS_BIND, "")


def set_read_only(target: Path, *, recursive: bool = False) -> None:
    """Refuse writes through this mount, and those below it when `recursive`.

    Raises:
        FailedPreconditionError: the kernel refuses, or is older than 5.12.
    """
    _set_attributes(target, add=_MOUNT_ATTR_RDONLY, remove=0, recursive=recursive)


def set_writable(target: Path) -> None:
    """Allow writes through this mount again.

    Raises:
        FailedPreconditionError: the kernel refuses.
    """
    _set_attributes(target, add=0, remove=_MOUNT_ATTR_RDONLY, recursive=False)


def _set_attributes(target: Path, *, add: int, remove: int, recursive: bool) -> None:
    attributes = struct.pack("=4Q", add, remove, 0, 0)  # struct mount_attr of linux/mount.h
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(target)),
        ctypes.c_uint(_AT_RECURSIVE if recursive else 0),
        ctypes.c_char_p(attributes),
        ctypes.c_size_t(len(attributes)),
    )
    if result != 0:
        raise _refused("change", target)


def _mount(source: str | None, target: Path, kind: str | None, flags: int, options: str) -> None:
    result = _libc.mount(
        None if source is None else ctypes.c_char_p(os.fsencode(source)),
        ctypes.c_char_p(os.fsencode(target)),
        None if kind is None else ctypes.c_char_p(kind.encode("ascii")),
        ctypes.c_ulong(flags),
        ctypes.c_char_p(options.encode("ascii")),
    )
    if result != 0:
        raise _refused("mount", target)


def _refused(verb: str, target: Path) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"cannot {verb} {target}: {os.strerror(ctypes.get_errno())}",
        remedy="Run as root, on a machine or in a container with CAP_SYS_ADMIN.",
    )
