# SPDX-License-Identifier: Apache-2.0
"""Making, listing, proving and restoring backups."""

import asyncio
import re
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from metropolis.base.errors import (
    AlreadyExistsError,
    DataLossError,
    FailedPreconditionError,
    MetropolisError,
    NotFoundError,
)
from metropolis.host import Clock, Entropy
from metropolis.metal.backup.file import (
    SALT_BYTES,
    BackupWriter,
    Header,
    key_id,
    read_header,
    read_records,
)
from metropolis.metal.backup.shelf import Shelf
from metropolis.metal.backup.source import Source, is_empty, kept_tables, open_source
from metropolis.metal.backup.target import load
from metropolis.metal.store import Kind
from metropolis.metal.store.indexing import index_kinds
from metropolis.metal.store.migrations import SCHEMA_VERSION
from metropolis.metal.store.opening import is_postgres, open_store, sqlite_path
from metropolis.metal.store.sqlite import MEMORY

_NAME: Final = re.compile(r"metal-(\d{8}T\d{6})Z-s(\d+)-r(\d+)\.backup")
_MOMENT: Final = "%Y%m%dT%H%M%S"
_IN_MEMORY_BYTES: Final = 8 << 20  # a larger backup goes through a file, encrypted as it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """One backup, as its name tells.

    Attributes:
        created: UTC, whole seconds.
        schema_version: Of the database.
        revision: Of the store; everything is as of this one.
    """

    name: str
    created: datetime
    schema_version: int
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """What all work with backups needs.

    Attributes:
        secret: 32 bytes; whoever has them can read every backup.
        kinds: Of all entities, for indexing and checking them.
    """

    shelf: Shelf
    secret: bytes = field(repr=False)
    kinds: Sequence[Kind[Any]]
    clock: Clock
    entropy: Entropy


def parse_name(name: str) -> Backup | None:
    """Read a backup's name; None: a file of somebody else."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    try:
        created = datetime.strptime(found[1], _MOMENT).replace(tzinfo=UTC)
    except ValueError:
        return None
    return Backup(name=name, created=created, schema_version=int(found[2]), revision=int(found[3]))


async def list_backups(shelf: Shelf) -> list[Backup]:
    """Return all backups, the newest last."""
    found = [backup for name in await shelf.names() if (backup := parse_name(name))]
    return sorted(found, key=lambda backup: (backup.created, backup.revision))


async def create_backup(vault: Vault, database: str) -> Backup:
    """Back up a database, which may be in use.

    Args:
        database: As the store is opened by it; a database in memory cannot be backed up.

    Raises:
        FailedPreconditionError: it is empty.
        UnavailableError: the database or the shelf cannot be reached.
    """
    async with open_source(database) as source:
        if await is_empty(source):
            raise FailedPreconditionError(
                "the database is empty: its backup would only push better ones out",
                remedy="Name the database that is served: --database.",
            )
        header = Header(
            schema_version=source.schema_version,
            revision=source.revision,
            created=vault.clock.wall().replace(microsecond=0),
            key_id=key_id(vault.secret),
            salt=vault.entropy.token_bytes(SALT_BYTES).hex(),
        )
        name = (
            f"metal-{header.created.strftime(_MOMENT)}Z"
            f"-s{header.schema_version}-r{header.revision}.backup"
        )
        with _scratch_file() as file:
            await _write(source, BackupWriter(file, header, vault.secret))
            file.seek(0)
            await vault.shelf.put(name, file)
    backup = parse_name(name)
    assert backup is not None
    return backup


async def _write(source: Source, writer: BackupWriter) -> None:
    for table in kept_tables(source.schema_version):
        columns = await source.columns(table)
        writer.table(table, columns)
        async for rows in source.rows(table, columns):
            writer.rows(rows)
    writer.finish()


async def verify_backup(vault: Vault, name: str) -> Header:
    """Prove a backup: restore it into a scratch database and read every entity there.

    Raises:
        NotFoundError: there is none of that name.
        DataLossError: it is damaged; the remedy names the one before it.
        FailedPreconditionError: it needs another key, or a newer release.
    """
    with tempfile.TemporaryDirectory(prefix="metal-rehearsal-") as directory:
        return await _restore(vault, str(Path(directory) / "scratch.db"), name)


async def restore_backup(vault: Vault, database: str, name: str | None = None) -> Backup:
    """Restore a backup into an empty database that nobody serves, and bring it up to date.

    It is proven first, so that a damaged one leaves the database empty.

    Args:
        name: None: the newest.

    Raises:
        NotFoundError: there is no backup.
        AlreadyExistsError: the database is not empty.
        DataLossError: the backup is damaged; the remedy names the one before it.
        FailedPreconditionError: it needs another key, or a newer release.
        UnavailableError: the database or the shelf cannot be reached.
    """
    if name is None:
        backups = await list_backups(vault.shelf)
        if not backups:
            raise NotFoundError(
                "there is no backup", remedy="Make one: `metropolis metal backup create`."
            )
        name = backups[-1].name
    await verify_backup(vault, name)
    header = await _restore(vault, database, name)
    return Backup(
        name=name,
        created=header.created,
        schema_version=header.schema_version,
        revision=header.revision,
    )


async def restore_if_empty(vault: Vault, database: str) -> Backup | None:
    """Restore the newest backup where nothing was ever written; None: there was no need, or none.

    Called before serving. Of replicas that start together, one restores.

    Raises:
        MetropolisError: see `restore_backup`: better not to serve than to serve nothing.
    """
    if not await _is_database_empty(database) or not await list_backups(vault.shelf):
        return None
    try:
        return await restore_backup(vault, database)
    except AlreadyExistsError:  # another replica was faster
        return None


async def _is_database_empty(database: str) -> bool:
    if not is_postgres(database) and sqlite_path(database) == MEMORY:
        return False  # whoever wants one in memory wants a new one
    try:
        async with open_source(database) as source:
            return await is_empty(source)
    except NotFoundError:
        return True


async def _restore(vault: Vault, database: str, name: str) -> Header:
    try:
        async with _opened(vault, name) as (file, header, prologue):
            await load(database, header, read_records(file, header, prologue, vault.secret))
        store = await open_store(database, clock=vault.clock)
        try:
            await index_kinds(store, vault.kinds)
        finally:
            await store.close()
    except DataLossError as cause:
        raise await _with_offer(vault.shelf, name, cause) from cause
    return header


async def _with_offer(shelf: Shelf, name: str, cause: DataLossError) -> DataLossError:
    """Return the error with the backup before this one as its remedy."""
    older: list[str] = []
    with suppress(MetropolisError):  # the offer is a kindness, the damage is the news
        older = [each.name for each in await list_backups(shelf) if each.name < name]
    if not older:
        return DataLossError(f"{name}: {cause}", remedy="There is none before it; look elsewhere.")
    return DataLossError(
        f"{name}: {cause}",
        remedy=f"Restore the one before it: `metropolis metal backup restore {older[-1]}`.",
    )


@asynccontextmanager
async def _opened(vault: Vault, name: str) -> AsyncGenerator[tuple[BinaryIO, Header, bytes]]:
    with _scratch_file() as file:
        await vault.shelf.get(name, file)
        await asyncio.sleep(0)
        file.seek(0)
        header, prologue = read_header(file)
        if header.schema_version > SCHEMA_VERSION:
            raise FailedPreconditionError(
                f"{name} has schema version {header.schema_version}, "
                f"this program knows {SCHEMA_VERSION}",
                remedy="Restore it with the release that wrote it, or a newer one.",
            )
        yield file, header, prologue


def _scratch_file() -> BinaryIO:
    return cast("BinaryIO", tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES))
