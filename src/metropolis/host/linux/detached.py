# SPDX-License-Identifier: Apache-2.0
"""Starting a program that outlives us, and holding a lock file as long as a process lives."""

import fcntl
import os
import select
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from metropolis.base.errors import UnavailableError
from metropolis.host.linux.namespaces import die_with_parent

_MESSAGE_BYTES_MAX: Final = 64 * 1024


def start_detached(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    working_directory: Path,
    log_path: Path,
    dies_with_us: bool = False,
    timeout_s: float = 30.0,
) -> tuple[int, bytes]:
    """Start a program in a session of its own, and wait for its first words.

    The program gets a pipe, whose number follows its arguments; what it writes there until it
    closes it is returned. Standard output and error are appended to `log_path` (mode 0600).

    Args:
        environment: The whole environment.
        dies_with_us: Killed when this thread ends; otherwise it outlives us.

    Returns:
        Process id and message. An empty message means that it died or said nothing in time.

    Raises:
        UnavailableError: it cannot be executed.
    """
    preparation: Callable[[], None] | None = die_with_parent if dies_with_us else None
    receiving, sending = os.pipe()
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        popen = subprocess.Popen(
            [*argv, str(sending)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(environment),
            cwd=working_directory,
            start_new_session=True,
            pass_fds=(sending,),
            preexec_fn=preparation,  # noqa: PLW1509  # one system call of a loaded library
        )
    except (OSError, subprocess.SubprocessError) as cause:
        os.close(receiving)
        raise UnavailableError(
            f"cannot run {argv[0]}", remedy=f"Check that {argv[0]} is installed and executable."
        ) from cause
    finally:
        os.close(sending)
        os.close(log)
    try:
        message = _read_to_end(receiving, timeout_s=timeout_s)
    finally:
        os.close(receiving)
    popen.returncode = 0  # from now on it is nobody's business here: no warning, no waiting
    return popen.pid, message


def _read_to_end(descriptor: int, *, timeout_s: float) -> bytes:
    deadline_s = time.monotonic() + timeout_s
    message = b""
    while len(message) < _MESSAGE_BYTES_MAX:
        remaining_s = deadline_s - time.monotonic()
        if remaining_s <= 0 or not select.select([descriptor], [], [], remaining_s)[0]:
            return b""
        data = os.read(descriptor, _MESSAGE_BYTES_MAX)
        if not data:
            break
        message += data
    return message


def try_lock(path: Path) -> int | None:
    """Take an exclusive lock on a file for the life of the returned descriptor.

    Returns:
        The descriptor, not inherited by programs, or None when somebody else holds the lock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_locked(path: Path) -> bool:
    """Tell whether another process holds the lock on a file right now."""
    if not path.exists():
        return False
    descriptor = try_lock(path)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False
