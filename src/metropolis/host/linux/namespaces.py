# SPDX-License-Identifier: Apache-2.0
"""Namespaces of this process. Anonymous ones only: they end with the last process inside."""

import ctypes
import enum
import os
import signal
from pathlib import Path
from typing import Final

from metropolis.base.errors import FailedPreconditionError

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER: Final = 36

_libc: Final = ctypes.CDLL(None, use_errno=True)  # resolved before any fork


class Namespaces(enum.IntFlag):
    """What a process can have of its own (CLONE_NEW*, linux/sched.h)."""

    MOUNT = 0x00020000
    UTS = 0x04000000
    IPC = 0x08000000
    USER = 0x10000000
    PID = 0x20000000  # for children forked afterwards: the first one becomes process 1
    NETWORK = 0x40000000


def enter_new_namespaces(kinds: Namespaces) -> None:
    """Move this thread into new namespaces. Call it before anything starts threads.

    Raises:
        FailedPreconditionError: the kernel or the container we run in refuses.
    """
    if _libc.unshare(int(kinds)) != 0:
        code = ctypes.get_errno()
        raise FailedPreconditionError(
            f"cannot create namespaces ({kinds!r}): {os.strerror(code)}",
            remedy="Run as root, on a machine or in a container with CAP_SYS_ADMIN.",
        )


def become_root_inside() -> None:
    """Enter a new user namespace in which this user is root, and nobody else exists.

    All that belongs to other users, root included, shows as nobody's in there and is guarded as
    before; what we create belongs to this user outside. Call it before anything starts threads.

    Raises:
        FailedPreconditionError: the kernel or the container we run in refuses.
    """
    user, group = os.geteuid(), os.getegid()
    enter_new_namespaces(Namespaces.USER)
    own = Path("/proc/self")
    try:
        (own / "setgroups").write_text("deny", encoding="ascii")  # asked for by the next two
        (own / "uid_map").write_text(f"0 {user} 1", encoding="ascii")
        (own / "gid_map").write_text(f"0 {group} 1", encoding="ascii")
    except OSError as cause:
        raise FailedPreconditionError(
            "cannot become root in a user namespace of our own",
            remedy="Run the same command as root, for example with sudo.",
        ) from cause


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that forked it ends, even by SIGKILL.

    Survives exec. The caller checks afterwards that the parent is still there.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def adopt_grandchildren() -> None:
    """Become the parent of our descendants' orphans; somebody has to reap them, see `processes`."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
