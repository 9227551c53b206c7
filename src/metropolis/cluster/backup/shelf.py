# SPDX-License-Identifier: Apache-2.0
"""Where a node keeps scheduled backups: those it made while it led, and copies of others'.

<root>/<generation>/part-00000 …   the file, in pieces; encrypted from the first byte on
<root>/<generation>/kept.pb        written last: without it the rest is an attempt that failed
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

from google.protobuf.message import DecodeError

from metropolis.api.backup_pb2 import KeptBackup
from metropolis.base.errors import DataLossError, NotFoundError, ResourceExhaustedError
from metropolis.cluster.planner.room import REMEDY
from metropolis.host import Directory

KEPT_MAX: Final = 1000
_KEPT: Final = "kept.pb"


class Shelf:
    """Backups of one node.

    Args:
        root: Path below `directory` that is the shelf's alone.
        is_full: What room is left is not for backups.

    Attributes:
        lock: Held by who puts backups there or takes them away.
    """

    def __init__(
        self, directory: Directory, root: str, *, is_full: Callable[[], bool] = lambda: False
    ) -> None:
        self._directory = directory
        self._root = root
        self._is_full = is_full
        self.lock = asyncio.Lock()

    async def begin(self, generation: int) -> "Place":
        """Return where a new backup goes.

        Raises:
            ResourceExhaustedError: the disk is full.
        """
        if self._is_full():
            raise ResourceExhaustedError("the disk of this node is full", remedy=REMEDY)
        path = self._path(generation)
        await self._directory.remove_tree(path)
        return Place(self._directory, path)

    async def kept(self) -> Sequence[KeptBackup]:
        """Return what is complete, newest first."""
        found: list[KeptBackup] = []
        for name in reversed(await self._directory.list(self._root)):
            try:
                data = await self._directory.read(f"{self._root}/{name}/{_KEPT}")
                found.append(KeptBackup.FromString(data))
            except (FileNotFoundError, DecodeError):
                continue  # an attempt that failed; pruning takes it away
        return found

    async def read(self, generation: int) -> AsyncGenerator[bytes, None]:
        """Yield a backup, piece by piece.

        Raises:
            NotFoundError: it is not here.
            DataLossError: a piece is missing.
        """
        path = self._path(generation)
        if not await self._directory.exists(f"{path}/{_KEPT}"):
            raise NotFoundError(
                f"there is no backup of generation {generation} on the disk of this node",
                remedy="List those there are with `metroctl cluster backup list`.",
            )
        for name in await self._directory.list(path):
            if name != _KEPT:
                try:
                    yield await self._directory.read(f"{path}/{name}")
                except FileNotFoundError as cause:
                    raise DataLossError(
                        f"backup {generation} was removed while it was read",
                        remedy="Fetch a newer one.",
                    ) from cause

    async def prune(self, keep: int) -> Sequence[int]:
        """Remove all but the newest `keep`, and failed attempts; return the generations removed.

        Nothing may be under way: hold the lock.
        """
        kept = [self._name(each.header.generation) for each in await self.kept()][:keep]
        gone = [name for name in await self._directory.list(self._root) if name not in kept]
        for name in gone:
            await self._directory.remove_tree(f"{self._root}/{name}")
        return [int(name) for name in gone if name.isdigit()]

    def _path(self, generation: int) -> str:
        return f"{self._root}/{self._name(generation)}"

    @staticmethod
    def _name(generation: int) -> str:
        return f"{generation:020d}"


class Place:
    """One backup that is being written."""

    def __init__(self, directory: Directory, path: str) -> None:
        self._directory = directory
        self._path = path
        self._parts = 0

    async def write(self, piece: bytes) -> None:
        """Write the next piece, durably."""
        await self._directory.write(f"{self._path}/part-{self._parts:05d}", piece)
        self._parts += 1

    async def read(self) -> AsyncGenerator[bytes, None]:
        """Yield what was written, as it lies there now."""
        for part in range(self._parts):
            yield await self._directory.read(f"{self._path}/part-{part:05d}")

    async def finish(self, kept: KeptBackup) -> None:
        """Say durably that it is complete."""
        await self._directory.write(
            f"{self._path}/{_KEPT}", kept.SerializeToString(deterministic=True)
        )

    async def abandon(self) -> None:
        """Remove what was written."""
        await self._directory.remove_tree(self._path)
