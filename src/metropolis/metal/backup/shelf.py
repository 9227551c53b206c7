# SPDX-License-Identifier: Apache-2.0
"""Where backups are kept: a directory, or a bucket of an S3-compatible store."""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, Protocol, final

from metropolis.base.errors import NotFoundError, UnavailableError
from metropolis.metal.s3 import S3Settings, S3Store

_PARTIAL: Final = ".partial"


class Shelf(Protocol):
    """Keeps files by name. A file is there as a whole, or not at all.

    Every call may raise UnavailableError: the place cannot be reached, or is full.
    """

    async def put(self, name: str, content: BinaryIO) -> None:
        """Keep a file, read from where it stands."""
        ...

    async def get(self, name: str, into: BinaryIO) -> None:
        """Read a file.

        Raises:
            NotFoundError: there is none.
        """
        ...

    async def names(self) -> list[str]:
        """Return the names of all files, sorted."""
        ...

    async def remove(self, name: str) -> None:
        """Remove a file; one that is not there is removed already."""
        ...


@final
class DirectoryShelf:
    """A directory, made when it is missing; files are readable by their owner alone."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def put(self, name: str, content: BinaryIO) -> None:
        """Keep a file, durably."""
        partial = self._directory / (name + _PARTIAL)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            with os.fdopen(os.open(partial, flags, 0o600), "wb") as file:
                shutil.copyfileobj(content, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._directory / name)
            self._sync()
        except OSError as cause:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise self._unavailable(cause) from cause

    async def get(self, name: str, into: BinaryIO) -> None:
        """Read a file."""
        try:
            with (self._directory / name).open("rb") as file:
                shutil.copyfileobj(file, into)
        except FileNotFoundError as cause:
            raise NotFoundError(
                f"there is no backup {name} in {self._directory}",
                remedy="`metropolis metal backup list` names those there are.",
            ) from cause
        except OSError as cause:
            raise self._unavailable(cause) from cause

    async def names(self) -> list[str]:
        """Return the names of all files, sorted."""
        try:
            entries = sorted(entry.name for entry in self._directory.iterdir() if entry.is_file())
        except FileNotFoundError:
            return []
        except OSError as cause:
            raise self._unavailable(cause) from cause
        return [name for name in entries if not name.endswith(_PARTIAL)]

    async def remove(self, name: str) -> None:
        """Remove a file."""
        try:
            (self._directory / name).unlink(missing_ok=True)
        except OSError as cause:
            raise self._unavailable(cause) from cause

    def _sync(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _unavailable(self, cause: OSError) -> UnavailableError:
        return UnavailableError(
            f"backups cannot be kept in {self._directory}: {cause.strerror or cause}",
            remedy="Check the directory's permissions and free space.",
        )


@final
class S3Shelf:
    """A bucket, or what lies below a prefix in it."""

    def __init__(self, settings: S3Settings, *, prefix: str = "") -> None:
        self._store = S3Store(settings)
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    async def put(self, name: str, content: BinaryIO) -> None:
        """Keep a file."""
        await self._store.put(self._prefix + name, content)

    async def get(self, name: str, into: BinaryIO) -> None:
        """Read a file."""
        await self._store.get(self._prefix + name, into)

    async def names(self) -> list[str]:
        """Return the names of all files, sorted."""
        keys = await self._store.keys(self._prefix)
        return [key.removeprefix(self._prefix) for key in keys]

    async def remove(self, name: str) -> None:
        """Remove a file."""
        await self._store.remove(self._prefix + name)
