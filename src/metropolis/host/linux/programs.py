# SPDX-License-Identifier: Apache-2.0
"""One-shot tools and file locks, for set-up programs that have no event loop.

A node never uses this: what it runs is supervised, see `processes`.
"""

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Final

from metropolis.base.errors import UnavailableError

_COMPLAINT_CHARS_MAX: Final = 2000


def run_program(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    working_directory: Path | None = None,
    timeout_s: float,
) -> bytes:
    """Run a program to its end and return its standard output.

    Args:
        environment: Added to our own environment.

    Raises:
        UnavailableError: it cannot be executed, failed, or did not end in time; the message holds
            the end of what it complained about.
    """
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, **(environment or {})},
            cwd=working_directory,
            timeout=timeout_s,
            check=False,
        )
    except OSError as cause:
        raise UnavailableError(
            f"cannot run {argv[0]}", remedy=f"Install the program {argv[0]}."
        ) from cause
    except subprocess.TimeoutExpired as cause:
        raise UnavailableError(
            f"{argv[0]} did not end within {timeout_s:g} s",
            remedy="Check the network and the load of this machine, then try again.",
        ) from cause
    if done.returncode != 0:
        complaint = done.stderr.decode(errors="replace").strip()[-_COMPLAINT_CHARS_MAX:]
        raise UnavailableError(
            f"{' '.join(argv[:2])} failed with exit code {done.returncode}: {complaint}",
            remedy="Correct what it complains about, then try again.",
        )
    return done.stdout


@contextlib.contextmanager
def locked(path: Path) -> Generator[None, None, None]:
    """Hold an exclusive lock on a file, created if missing. The kernel frees it when we die."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
