# SPDX-License-Identifier: Apache-2.0
"""One boot's view of a simulated disk."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import final

from metropolis.host.sim.disk import SimDisk, powered_off


@final
class SimDirectory:
    """The files of a disk, for as long as the boot lasts that opened it.

    After `SimDisk.crash` every operation raises `OSError`: code of the old boot that still cleans
    up must not touch what the next boot finds.

    Args:
        mount_point: What `absolute` puts in front.
    """

    def __init__(self, disk: SimDisk, *, mount_point: str) -> None:
        self._disk = disk
        self._mount_point = mount_point.rstrip("/")
        self._generation = disk.generation

    async def read(self, path: str) -> bytes:
        return self._disk.read(await self._ready_to_read(path))

    async def write(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        where = self._locate(path)
        await self._change(partial(self._disk.put, where, bytes(data), mode))

    async def overwrite(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        where = self._locate(path)
        await self._change(
            partial(self._disk.put, where, bytes(data), mode),
            tear=partial(self._disk.tear, where, bytes(data)),
        )

    async def remove(self, path: str) -> None:
        await self._change(partial(self._disk.remove, self._locate(path)))

    async def remove_tree(self, path: str) -> None:
        await self._change(partial(self._disk.remove_tree, self._locate(path)))

    async def exists(self, path: str) -> bool:
        return self._disk.has(await self._ready_to_read(path))

    async def list(self, path: str) -> Sequence[str]:
        return self._disk.names(await self._ready_to_read(path))

    async def make_directory(self, path: str, *, mode: int = 0o700) -> None:
        await self._change(partial(self._disk.make_directory, self._locate(path), mode))

    async def free_bytes(self) -> int:
        await self._ready_to_read("")
        return max(0, self._disk.capacity_bytes - self._disk.used_bytes)

    def absolute(self, path: str) -> str:
        where = self._locate(path)
        return f"{self._mount_point}/{where}" if where else self._mount_point

    async def _ready_to_read(self, path: str) -> str:
        where = self._locate(path)
        await asyncio.sleep(self._disk.latency_s[0])
        if self._generation != self._disk.generation:
            raise powered_off(path)
        return where

    async def _change(
        self, apply: Callable[[], None], *, tear: Callable[[], None] | None = None
    ) -> None:
        """Wait until the change is durable; when cancelled, too, as the real one does."""
        if self._generation != self._disk.generation:
            raise powered_off("")
        done = self._disk.submit(apply, tear=tear)
        try:
            await asyncio.shield(done)
        except asyncio.CancelledError:
            while not done.done():
                try:
                    await asyncio.wait([done])
                except asyncio.CancelledError:
                    continue  # still in flight: the disk decides how long
            done.exception()  # seen; the cancellation is what the caller asked for
            raise

    def _locate(self, path: str) -> str:
        """Refuse paths that leave the subtree; "" and "." are the directory itself."""
        parts = path.split("/")
        if path.startswith("/") or ".." in parts or "\0" in path:
            raise ValueError(f"{path!r} is not a path inside a directory")
        return "/".join(part for part in parts if part not in {"", "."})
