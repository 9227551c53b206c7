# SPDX-License-Identifier: Apache-2.0
"""Backups by the clock: one replica makes each, proves it, and removes what is old."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from metropolis.base.errors import MetropolisError, chain
from metropolis.metal.backup.backups import (
    Backup,
    Vault,
    create_backup,
    list_backups,
    verify_backup,
)
from metropolis.metal.backup.shelf import Shelf
from metropolis.metal.store import Reader, Store, Transaction
from metropolis.metal.store.documents import to_us

LOG: Final = logging.getLogger("metropolis.metal.backup")
EVERY: Final = timedelta(minutes=10)
KEEP: Final = 100
KEEP_DAYS: Final = 14
# Between backups of a database in which nothing happens.
UNCHANGED_MAX: Final = timedelta(days=1)

_CLAIM: Final = (
    "INSERT INTO counter (name, value) VALUES ('backup_us', $1)"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE counter.value <= $2"
)
_FAILED: Final = (
    "INSERT INTO counter (name, value) VALUES ('backup_failing_until_us', $1)"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
_WELL: Final = "DELETE FROM counter WHERE name = 'backup_failing_until_us'"
_LATE: Final = timedelta(hours=1)  # a backup of a large database takes a while, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """When backups are made, and how long they are kept.

    Attributes:
        keep: The newest so many are kept however old.
        keep_days: Younger ones are kept however many.
    """

    every: timedelta = EVERY
    keep: int = KEEP
    keep_days: int = KEEP_DAYS

    def __post_init__(self) -> None:
        assert self.every > timedelta(0)
        assert self.keep >= 1
        assert self.keep_days >= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Safekeeping:
    """Where a replica keeps backups, by which key, and when it makes them."""

    shelf: Shelf
    secret: bytes = field(repr=False)
    plan: Plan


def outdated(backups: Sequence[Backup], plan: Plan, now: datetime) -> list[Backup]:
    """Return which of these, the newest last, need not be kept any longer."""
    oldest = now - timedelta(days=plan.keep_days)
    return [backup for backup in backups[: -plan.keep] if backup.created < oldest]


async def run_schedule(vault: Vault, store: Store, database: str, plan: Plan) -> None:
    """Back up for ever; what fails is logged, and tried again at the next time.

    Args:
        store: Of the same database: there the replicas agree who of them is at work.
    """
    while True:
        await asyncio.sleep(plan.every.total_seconds())
        await back_up_and_tell(vault, store, database, plan)


async def back_up_and_tell(vault: Vault, store: Store, database: str, plan: Plan) -> None:
    """Make a backup if it is time; when that fails, log why, and let every replica know."""
    try:
        backup = await back_up_once(vault, store, database, plan)
        if backup is not None:
            await store.write(lambda tx: tx.execute(_WELL), serial=False)
    except MetropolisError as error:
        LOG.error("no backup was made: %s", chain(error))  # noqa: TRY400  # expected
        with suppress(MetropolisError):  # then the database is what is ill, and is seen to be
            await store.write(lambda tx: _tell_failed(tx, plan), serial=False)


async def is_failing(reader: Reader, now: datetime) -> bool:
    """Tell whether the last scheduled backup failed, whichever replica was to make it."""
    rows = await reader.fetch("SELECT value FROM counter WHERE name = 'backup_failing_until_us'")
    return bool(rows) and rows[0][0] > to_us(now)


async def _tell_failed(tx: Transaction, plan: Plan) -> None:
    # Until then somebody has tried again, or nobody makes backups any longer.
    await tx.execute(_FAILED, to_us(tx.now + 2 * plan.every + _LATE))


async def back_up_once(vault: Vault, store: Store, database: str, plan: Plan) -> Backup | None:
    """Make a backup if it is time and something has changed; None: there was no need.

    Raises:
        MetropolisError: it could not be made, or could not be proven.
    """
    if not await _claim(store, plan):
        return None
    now = vault.clock.wall()
    backups = await list_backups(vault.shelf)
    revision = await store.read(lambda reader: reader.revision())
    if revision == 0:
        return None
    if backups and backups[-1].revision == revision and now - backups[-1].created < UNCHANGED_MAX:
        return None
    # Compressing and proving takes a second of work: on a thread, requests go on being answered.
    backup = await asyncio.to_thread(lambda: asyncio.run(_make(vault, database)))
    LOG.info("backup %s was made and proven", backup.name)
    for old in outdated(await list_backups(vault.shelf), plan, now):
        await vault.shelf.remove(old.name)
    return backup


async def _make(vault: Vault, database: str) -> Backup:
    backup = await create_backup(vault, database)
    try:
        await verify_backup(vault, backup.name)
    except MetropolisError:
        # It would be taken for the newest, and nothing would be tried until something changes.
        with suppress(MetropolisError):
            await vault.shelf.remove(backup.name)
        raise
    return backup


async def _claim(store: Store, plan: Plan) -> bool:
    async def claim(tx: Transaction) -> bool:
        # Half a period: clocks of replicas differ a little, and so do their sleeps.
        last_us = to_us(tx.now - plan.every / 2)
        return bool(await tx.execute(_CLAIM, to_us(tx.now), last_us))

    return await store.write(claim, serial=False)
