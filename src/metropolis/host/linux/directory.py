# SPDX-License-Identifier: Apache-2.0
"""A subtree of real files, written so that a power cut cannot tear them.

A write goes to `<name>.__metropolis_tmp` beside the target, is synced, renamed over it, and the
directory and the file are synced: on FAT a directory entry holds its file's size and place, and is
written as part of the file. Leftovers of a crash are overwritten by the next write of the same
file and never listed. File operations run in the loop's executor: an fsync can take seconds.
"""

import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

from metropolis.host.linux.executor import in_executor

_TEMPORARY_SUFFIX: Final = ".__metropolis_tmp"


@final
class LinuxDirectory:
    """The files below one directory, which has one owner: us.

    Args:
        measured: Where `free_bytes` looks, if other file systems are mounted below the directory.
    """

    def __init__(self, root: Path, *, measured: Path | None = None) -> None:
        self._root = root.absolute()
        self._measured = self._root if measured is None else measured
        self._lock = threading.Lock()  # one change at a time: temporary names are fixed

    async def read(self, path: str) -> bytes:
        """Return the content; `FileNotFoundError` if there is none."""
        return await in_executor(self._locate(path).read_bytes)

    async def write(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Create or replace a file, atomically and durably; parents get mode 0700."""
        target = self._locate(path)

        def work() -> None:
            with self._lock:
                _make_directories(target.parent, mode=0o700)
                _write_atomically(target, data, mode=mode)

        await in_executor(work)

    async def overwrite(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Replace a file's content where it lies: durably, but a power cut may tear it."""
        target = self._locate(path)

        def work() -> None:
            with self._lock:
                _make_directories(target.parent, mode=0o700)
                _overwrite(target, data, mode=mode)

        await in_executor(work)

    async def remove(self, path: str) -> None:
        """Remove a file, durably. Not there is fine."""
        target = self._locate(path)

        def work() -> None:
            with self._lock:
                try:
                    target.unlink()
                except FileNotFoundError:
                    return
                _sync_directory(target.parent)

        await in_executor(work)

    async def remove_tree(self, path: str) -> None:
        """Remove a directory and everything in it, durably. Not there is fine."""
        target = self._locate(path)

        def work() -> None:
            with self._lock:
                try:
                    shutil.rmtree(target)
                except FileNotFoundError:
                    return
                _sync_directory(target.parent)

        await in_executor(work)

    async def exists(self, path: str) -> bool:
        """Tell whether there is a file or a directory."""
        return await in_executor(self._locate(path).exists)

    async def list(self, path: str) -> Sequence[str]:
        """Names inside a directory, sorted; empty when it does not exist."""
        target = self._locate(path)

        def work() -> Sequence[str]:
            try:
                names = os.listdir(target)  # noqa: PTH208  # names are wanted, not paths
            except FileNotFoundError:
                return ()
            return tuple(sorted(name for name in names if not name.endswith(_TEMPORARY_SUFFIX)))

        return await in_executor(work)

    async def free_bytes(self) -> int:
        """How much more can be written, by us; 0 while there is no such directory."""

        def work() -> int:
            try:
                found = os.statvfs(self._measured)
            except FileNotFoundError:
                return 0
            return found.f_bavail * found.f_frsize

        return await in_executor(work)

    async def make_directory(self, path: str, *, mode: int = 0o700) -> None:
        """Create a directory and its parents (0700), durably. Already there is fine."""
        target = self._locate(path)

        def work() -> None:
            with self._lock:
                _make_directories(target, mode=mode)

        await in_executor(work)

    def absolute(self, path: str) -> str:
        """The path as another program of this machine must spell it."""
        return str(self._locate(path))

    def _locate(self, path: str) -> Path:
        """Refuse paths that leave the subtree; "" and "." are the directory itself."""
        if path.startswith("/") or ".." in path.split("/") or "\0" in path:
            raise ValueError(f"{path!r} is not a path inside a directory")
        return self._root / path


def _write_atomically(target: Path, data: bytes, *, mode: int) -> None:
    temporary = target.with_name(target.name + _TEMPORARY_SUFFIX)
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, mode)
    try:
        try:
            os.fchmod(descriptor, mode)  # the umask may only have taken bits away before
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
            temporary.rename(target)
            _sync_directory(target.parent)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        temporary.unlink(missing_ok=True)  # a full disk should not stay full because of us
        raise


def _overwrite(target: Path, data: bytes, *, mode: int) -> None:
    is_new = not target.exists()
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(target, flags, mode)
    try:
        os.fchmod(descriptor, mode)
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.ftruncate(descriptor, len(data))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if is_new:
        _sync_directory(target.parent)


def _make_directories(target: Path, *, mode: int) -> None:
    """Create `target` with `mode` and missing parents with 0700, each durably."""
    missing: list[Path] = []
    current = target
    while not current.is_dir():
        missing.append(current)
        current = current.parent
    for directory in reversed(missing):
        wanted = mode if directory == target else 0o700
        directory.mkdir(mode=wanted, exist_ok=True)
        directory.chmod(wanted)
        _sync_directory(directory.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
