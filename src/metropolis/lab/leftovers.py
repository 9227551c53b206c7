# SPDX-License-Identifier: Apache-2.0
"""Finds and ends processes of a cluster that nobody keeps any more.

A killed keeper takes its machines along, by the kernel; this is for what slipped through, and to
know when the last one is gone. Processes are recognised by their environment, never by name.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from metropolis.base.errors import UnavailableError
from metropolis.lab.state import ClusterDirectory

VARIABLE: Final = "METROPOLIS_LAB"
_PROC: Final = Path("/proc")
_LOOK_AGAIN_S: Final = 0.05


def marker(directory: ClusterDirectory) -> Mapping[str, str]:
    """The environment variable that every process of a cluster carries."""
    return {VARIABLE: str(directory.path.resolve())}


def find_processes(directory: ClusterDirectory) -> Sequence[int]:
    """Return the ids of the cluster's processes, ours and zombies excepted."""
    wanted = f"{VARIABLE}={directory.path.resolve()}".encode()
    found: list[int] = []
    for path in _PROC.iterdir():
        if not path.name.isdigit() or int(path.name) == os.getpid():
            continue
        try:
            # The environment of a zombie is empty.
            if wanted in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
        except OSError:
            continue  # it ended, or is not ours to look at
    return sorted(found)


async def end_processes(directory: ClusterDirectory, *, timeout_s: float = 10.0) -> int:
    """Kill the cluster's processes and wait until they are gone; return how many there were.

    Raises:
        UnavailableError: some do not end, even by signal 9.
    """
    killed: set[int] = set()
    found: Sequence[int] = ()
    try:
        async with asyncio.timeout(timeout_s):
            while found := find_processes(directory):
                killed.update(found)
                for process_id in found:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process_id, signal.SIGKILL)
                await asyncio.sleep(_LOOK_AGAIN_S)
    except TimeoutError as cause:
        raise UnavailableError(
            f"processes of the cluster do not end: {', '.join(map(str, found))}",
            remedy="Look at them with `ps`; they may wait for a disk. Then try again.",
        ) from cause
    return len(killed)


async def wait_gone(directory: ClusterDirectory, *, timeout_s: float) -> bool:
    """Wait until no process of the cluster is left; say whether that happened in time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while find_processes(directory):  # noqa: ASYNC110  # the kernel tells nobody
                await asyncio.sleep(_LOOK_AGAIN_S)
            return True
    return False


def reap(process_id: int) -> None:
    """Collect a keeper that was our own child and has ended, so that it is no zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process_id, os.WNOHANG)
