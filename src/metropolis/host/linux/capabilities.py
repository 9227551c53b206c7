# SPDX-License-Identifier: Apache-2.0
"""What this machine lets us do, found out by doing it, with a remedy where it does not."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from metropolis.base.errors import FailedPreconditionError, UnavailableError
from metropolis.host.linux.programs import run_program

_UNSHARE_TIMEOUT_S: Final = 10.0
_KINDS: Final = ("--net", "--mount", "--pid", "--uts", "--ipc")
_INSIDE: Final = ("--fork", "--mount-proc", "true")
_USER: Final = ("--user", "--map-root-user")
_SYSCTLS: Final = Path("/proc/sys")

ReadSysctl = Callable[[str], str | None]  # name with dots -> value, None where there is none

# Sysctl -> the value with which it forbids users namespaces of their own, and the one to set.
_FORBIDDING: Final = (
    ("kernel.unprivileged_userns_clone", "0", "1"),  # Debian's, Arch's
    ("user.max_user_namespaces", "0", "15000"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),  # Ubuntu's, since 23.10
)


def is_root() -> bool:
    """Whether we may do everything already, without a user namespace."""
    return os.geteuid() == 0


def check_namespaces() -> None:
    """Require network, mount, PID, UTS and IPC namespaces, by creating one of each for a moment.

    Whoever is not root needs a user namespace around them; this is tried, too.

    Raises:
        FailedPreconditionError: the kernel or the container we run in refuses.
    """
    if not is_root() and not _can_unshare(_USER, "true"):
        raise FailedPreconditionError(
            "this machine does not let users create user namespaces",
            remedy=user_namespace_remedy(_read_sysctl),
        )
    if not _can_unshare(*(() if is_root() else (_USER,)), _KINDS, _INSIDE):
        raise FailedPreconditionError(
            "this machine does not let us create namespaces",
            remedy="Run on a machine or in a container with CAP_SYS_ADMIN (docker: --privileged).",
        )


def user_namespace_remedy(read: ReadSysctl) -> str:
    """Say what lets users create user namespaces: the sysctl that forbids it, else root. Pure."""
    for name, forbidding, allowing in _FORBIDDING:
        if read(name) == forbidding:
            return f"Run `sudo sysctl -w {name}={allowing}` once, or run the same command as root."
    return (
        "Run the same command as root, for example with sudo; "
        "in a container, on a machine or with docker's --privileged."
    )


def check_owner(path: Path) -> None:
    """Require that a directory, if it exists, is ours.

    Raises:
        FailedPreconditionError: it is somebody else's.
    """
    try:
        owner = path.stat().st_uid
    except OSError:
        return
    if owner != os.geteuid():
        raise FailedPreconditionError(
            f"{path} belongs to user {owner}, and we run as user {os.geteuid()}",
            remedy="Run the same command as the user who launched the cluster.",
        )


def _can_unshare(*words: str | tuple[str, ...]) -> bool:
    argv = ["unshare"]
    for word in words:
        argv += [word] if isinstance(word, str) else word
    try:
        run_program(argv, timeout_s=_UNSHARE_TIMEOUT_S)
    except UnavailableError:
        return False
    return True


def _read_sysctl(name: str) -> str | None:
    try:
        return (_SYSCTLS / name.replace(".", "/")).read_text(encoding="ascii").strip()
    except OSError:
        return None
