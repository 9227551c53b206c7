# SPDX-License-Identifier: Apache-2.0
"""A disk with files, that can be slow, full, broken, and lose power.

Changes are atomic and durable, as `metropolis.host.Directory` promises, so what a crash decides is
small: the change at the head of the queue happened or not, or is torn if it overwrites a file in
place; all behind it did not, and whoever waits for one of them never hears of it.
"""

import asyncio
import contextlib
import errno
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final, final

CAPACITY_BYTES: Final = 1 << 30
_ROOT: Final = ""


@dataclass(slots=True)
class _Tree:
    """Directories by path with their modes, files by path with mode and content."""

    directories: dict[str, int] = field(default_factory=lambda: {_ROOT: 0o700})
    files: dict[str, tuple[int, bytes]] = field(default_factory=dict[str, tuple[int, bytes]])


@dataclass(frozen=True, slots=True)
class _Change:
    apply: Callable[[], None]
    tear: Callable[[], None] | None
    done: asyncio.Future[None]


def _no_space(path: str) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def powered_off(path: str) -> OSError:
    """What code of an ended boot gets: it may run on for a moment, and changes nothing."""
    return OSError(errno.EIO, "the machine has no power", path)


@final
class SimDisk:
    """Files by path. Paths are checked by `SimDirectory`; here they are plain strings.

    Attributes:
        capacity_bytes: Content beyond this is refused with ENOSPC; a replacement needs room for
            the old content and the new.
        latency_s: Lowest and highest virtual seconds that a change takes. Reads take the lowest.
        is_broken: Every operation fails with EIO.
        on_change: Called whenever a change is asked for, when it is not durable yet.
    """

    def __init__(
        self,
        rng: Random,
        *,
        capacity_bytes: int = CAPACITY_BYTES,
        latency_s: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self._rng = rng
        self._tree = _Tree()
        self._queue: deque[_Change] = deque()
        self._busy_until_s = 0.0
        self.generation = 0
        self.capacity_bytes = capacity_bytes
        self.latency_s = latency_s
        self.is_broken = False
        self.on_change: Callable[[], None] | None = None

    # Faults

    def crash(self) -> None:
        """Cut the power: decide the change in flight, forget those behind, strand their callers."""
        self.generation += 1
        if self._queue:
            self._decide(self._queue[0])
        while self._queue:
            change = self._queue.popleft()
            if not change.done.done():
                change.done.set_exception(powered_off(""))
                change.done.exception()  # a boot that is over need not look
        self._busy_until_s = 0.0

    def _decide(self, change: _Change) -> None:
        ends = [change.apply, None, change.tear]
        end = self._rng.choice(ends if change.tear is not None else ends[:2])
        if end is not None:
            with contextlib.suppress(OSError):  # it failed, and nobody is there to hear of it
                end()

    def wipe(self) -> None:
        """Lose everything, as a replaced disk."""
        self._tree = _Tree()

    @property
    def used_bytes(self) -> int:
        """What all files hold."""
        return sum(len(data) for _, data in self._tree.files.values())

    # Changes: queued, one at a time, in the order in which they were asked for

    def submit(
        self, apply: Callable[[], None], *, tear: Callable[[], None] | None = None
    ) -> asyncio.Future[None]:
        """Queue a change; the future ends when it is durable, or with its `OSError`."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        begins_s = max(loop.time(), self._busy_until_s)
        self._busy_until_s = begins_s + self._rng.uniform(*self.latency_s)
        self._queue.append(_Change(apply, tear, done))
        loop.call_at(self._busy_until_s, self._finish_first, self.generation)
        if self.on_change is not None:
            self.on_change()
        return done

    def _finish_first(self, generation: int) -> None:
        if generation != self.generation:
            return
        change = self._queue.popleft()
        try:
            if self.is_broken:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            change.apply()
        except OSError as error:
            change.done.set_exception(error)
        else:
            change.done.set_result(None)

    def put(self, path: str, data: bytes, mode: int) -> None:
        """Create or replace a file and its parents."""
        if path in self._tree.directories:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if self.used_bytes + len(data) > self.capacity_bytes:
            raise _no_space(path)
        self.make_directory(_parent(path), 0o700)
        self._tree.files[path] = (mode, data)

    def tear(self, path: str, data: bytes) -> None:
        """Leave a file as an overwriting does that is cut off: part new, part old."""
        mode, old = self._tree.files.get(path, (0o600, b""))
        at = self._rng.randrange(len(data) + 1)
        self.put(path, data[:at] + old[at:], mode)

    def remove(self, path: str) -> None:
        """Remove a file, if there is one."""
        if path in self._tree.directories:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        self._tree.files.pop(path, None)

    def remove_tree(self, path: str) -> None:
        """Remove a directory with its content, if there is one."""
        if path in self._tree.files:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        for inside in [*self._below(path)]:
            self._tree.files.pop(inside, None)
            self._tree.directories.pop(inside, None)
        self._tree.directories.pop(path, None)
        self._tree.directories.setdefault(_ROOT, 0o700)

    def make_directory(self, path: str, mode: int) -> None:
        """Create a directory with `mode`, and missing parents with 0700."""
        if path in self._tree.directories:
            return
        if path in self._tree.files:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        self.make_directory(_parent(path), 0o700)
        self._tree.directories[path] = mode

    # Reads: of what is durable

    def read(self, path: str) -> bytes:
        """Return a file's content."""
        self._check_works()
        if path in self._tree.directories:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if path not in self._tree.files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._tree.files[path][1]

    def mode(self, path: str) -> int:
        """Permission bits of a file or directory."""
        if path in self._tree.directories:
            return self._tree.directories[path]
        return self._tree.files[path][0]

    def has(self, path: str) -> bool:
        """Tell whether there is a file or directory."""
        self._check_works()
        return path in self._tree.files or path in self._tree.directories

    def names(self, path: str) -> tuple[str, ...]:
        """Names inside a directory, sorted; none when it does not exist."""
        self._check_works()
        if path in self._tree.files:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        begin = f"{path}/" if path else ""
        inside = (each[len(begin) :].partition("/")[0] for each in self._below(path))
        return tuple(sorted(set(inside)))

    def _below(self, path: str) -> Iterator[str]:
        begin = f"{path}/" if path else ""
        for each in [*self._tree.files, *self._tree.directories]:
            if each.startswith(begin) and each not in {path, _ROOT}:
                yield each

    def _check_works(self) -> None:
        if self.is_broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
