# SPDX-License-Identifier: Apache-2.0
"""Backups as one leader makes them: on demand, and on schedule onto its own disk.

A leader counts only what lies on its own disk: one that has just been elected and has no backup
that is recent enough makes one. The other members fetch copies (`copies`) and say what they hold,
so a disk that is lost takes no backup with it.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from metropolis.api.backup_pb2 import BackupSettings, KeptBackup
from metropolis.base.errors import (
    AlreadyExistsError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    MetropolisError,
    OutOfRangeError,
    UnavailableError,
    chain,
)
from metropolis.cluster.backup.copies import merged
from metropolis.cluster.backup.maker import Made, Order, Sink, make_backup
from metropolis.cluster.backup.rehearsal import rehearse
from metropolis.cluster.backup.shelf import KEPT_MAX, Place, Shelf
from metropolis.cluster.state.backups import BackupFacts, read_facts
from metropolis.cluster.state.fenced import FencedStore, retry_conflicts
from metropolis.consensus.scratch import Scratch, memory_scratch
from metropolis.formats.backup.sealing import check_public_key
from metropolis.host import Clock, Entropy
from metropolis.rpc.status import NotLeaderError
from metropolis.supervision import Logger

INTERVAL_S_MIN: Final = 60
INTERVAL_S_MAX: Final = 90 * 24 * 3600
LOOK_S: Final = 30.0  # how often the schedule is looked at
ON_DEMAND_S_MAX: Final = 600.0  # how long a caller may take to read a backup
FAILED_S: Final = 60.0  # before a scheduled run that failed is tried again


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskEdges:
    """What a desk is given.

    Attributes:
        ca_fingerprint: SHA-256 of the cluster CA's certificate.
        shelf: None where backups cannot be kept: then there is no schedule.
        scratch: Where scheduled backups are rehearsed.
    """

    store: FencedStore
    clock: Clock
    entropy: Entropy
    log: Logger
    ca_fingerprint: bytes
    shelf: Shelf | None
    scratch: Scratch = field(default_factory=memory_scratch)


class BackupDesk:
    """One tenure's backups.

    Attributes:
        last_failure: Of the schedule; empty after a success.
    """

    def __init__(self, edges: DeskEdges) -> None:
        self._edges = edges
        # One at a time: each reads the whole store. A caller who reads slowly must not keep the
        # schedule waiting, which has the shelf's lock.
        self._on_demand = asyncio.Lock()
        self._wake = asyncio.Event()
        self._failed_at_s: float | None = None
        self.last_failure = ""
        self._reported: dict[str, Sequence[KeptBackup]] = {}

    async def facts(self) -> BackupFacts:
        """Read settings and state from the store."""
        return await read_facts(self._edges.store)

    async def set_recovery_key(self, public_key: bytes, *, replace: bool) -> BackupSettings:
        """Encrypt to another key from now on.

        Raises:
            InvalidArgumentError: it is none.
            AlreadyExistsError: there is another one, and it is not to be replaced.
        """
        check_public_key(public_key)

        async def attempt() -> BackupSettings:
            facts = await self.facts()
            old = facts.settings.recovery_public_key
            if old not in (b"", public_key) and not replace:
                raise AlreadyExistsError(
                    "the cluster has another recovery key already",
                    remedy="Use that one, or replace it with `keygen --replace`.",
                )
            return await self._change(facts, recovery_public_key=public_key)

        return await retry_conflicts(attempt)

    async def set_schedule(self, *, interval_s: int, keep: int) -> BackupSettings:
        """Make backups regularly; an interval of 0 ends that.

        Raises:
            InvalidArgumentError: interval or number is out of range.
            FailedPreconditionError: there is no recovery key to encrypt to.
        """
        if interval_s and not INTERVAL_S_MIN <= interval_s <= INTERVAL_S_MAX:
            raise InvalidArgumentError(
                f"backups cannot be made every {interval_s} s",
                remedy=f"Choose {INTERVAL_S_MIN} s to {INTERVAL_S_MAX // 86400} days.",
            )
        if interval_s and not 1 <= keep <= KEPT_MAX:
            raise InvalidArgumentError(
                f"{keep} backups cannot be kept", remedy=f"Choose 1 to {KEPT_MAX}."
            )

        async def attempt() -> BackupSettings:
            facts = await self.facts()
            if interval_s:
                _require_key(facts)
            return await self._change(facts, interval_s=interval_s, keep=keep)

        settings = await retry_conflicts(attempt)
        self._failed_at_s = None
        self._wake.set()
        return settings

    async def make(self, sink: Sink) -> Made:
        """Make a backup now and hand it to `sink`. Another one that is under way comes first.

        Raises:
            FailedPreconditionError: there is no recovery key to encrypt to.
            DeadlineExceededError: `sink` took too long.
            MetropolisError: it cannot be made.
        """
        async with self._on_demand:
            order = await self._next_order()
            edges = self._edges
            try:
                async with asyncio.timeout(ON_DEMAND_S_MAX):
                    made = await make_backup(edges.store, order, edges.entropy, sink)
            except TimeoutError as cause:
                raise _too_slow() from cause
            except OutOfRangeError as cause:  # thousands of changes came meanwhile
                raise _too_slow() from cause
            edges.log.info(
                "Made backup %d of revision %d: %d records",
                order.generation,
                order.revision,
                made.records,
            )
            return made

    async def kept(self) -> Sequence[KeptBackup]:
        """Return what lies on this node's disk, newest first."""
        return [] if self._edges.shelf is None else await self._edges.shelf.kept()

    async def everywhere(self, own_id: str, members: Collection[str]) -> Sequence[KeptBackup]:
        """Return every backup with the nodes that hold it, newest first.

        Args:
            members: Nodes whose reports count; others are no members any more.
        """
        reported = {each: held for each, held in self._reported.items() if each in members}
        return merged(own_id, await self.kept(), reported)

    def hear(self, node_id: str, held: Sequence[KeptBackup]) -> None:
        """Note what another member holds."""
        self._reported[node_id] = held

    def read(self, generation: int) -> AsyncGenerator[bytes, None]:
        """Yield a kept backup.

        Raises:
            FailedPreconditionError: this node keeps none.
            NotFoundError: that one is not here.
        """
        if self._edges.shelf is None:
            raise FailedPreconditionError(
                "this node keeps no backups", remedy="Run `metroctl cluster backup create`."
            )
        return self._edges.shelf.read(generation)

    async def run(self) -> None:
        """Keep the schedule for as long as this node leads."""
        while True:
            self._wake.clear()
            try:
                await self._run_if_due()
            except NotLeaderError:
                pass  # the tenure is about to end
            except (MetropolisError, OSError) as error:
                self._failed_at_s = asyncio.get_running_loop().time()
                self.last_failure = str(error) if isinstance(error, OSError) else chain(error)
                self._edges.log.error(  # noqa: TRY400  # the whole chain is in the text
                    "The scheduled backup failed: %s", self.last_failure
                )
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _run_if_due(self) -> None:
        shelf = self._edges.shelf
        facts = await self.facts()
        settings = facts.settings
        if shelf is None or not settings.interval_s or not settings.recovery_public_key:
            return
        if self._has_just_failed() or not await self._is_due(shelf, settings.interval_s):
            return
        async with shelf.lock:
            await shelf.prune(settings.keep)  # failed attempts of before must not fill the disk
            await self._make_kept(shelf)
            await shelf.prune(settings.keep)
        self.last_failure, self._failed_at_s = "", None

    async def _make_kept(self, shelf: Shelf) -> None:
        edges = self._edges
        order = await self._next_order()
        place = await shelf.begin(order.generation)
        try:
            made = await make_backup(edges.store, order, edges.entropy, place.write)
            rehearsed_in = await self._rehearse(place, made)
        except BaseException:
            await place.abandon()
            raise
        kept = KeptBackup(
            header=made.header.to_wire(),
            size_bytes=made.size_bytes,
            records=made.records,
            sha256=made.sha256,
            rehearsed_in=rehearsed_in,
        )
        await place.finish(kept)
        edges.log.info(
            "Made backup %d of revision %d and rehearsed it in %s: %d records",
            order.generation,
            order.revision,
            rehearsed_in,
            made.records,
        )

    async def _rehearse(self, place: Place, made: Made) -> str:
        """Rehearse what lies on the disk; where there is no scratch etcd, in memory."""
        edges = self._edges
        try:
            async with aclosing(place.read()) as pieces:
                await rehearse(pieces, made, edges.store, edges.scratch)
        except (UnavailableError, OSError) as error:
            twin = memory_scratch()
            edges.log.warning("The rehearsal goes on in %s: %s", twin.kind, error)
            async with aclosing(place.read()) as pieces:
                await rehearse(pieces, made, edges.store, twin)
            return twin.kind
        return edges.scratch.kind

    async def _next_order(self) -> Order:
        """Count one more backup; its revision is that of the counting."""
        edges = self._edges

        async def attempt() -> Order:
            facts = await self.facts()
            _require_key(facts)
            revision = await edges.store.write(facts.with_next_generation())
            return Order(
                generation=facts.newest_generation + 1,
                revision=revision,
                created=edges.clock.wall().replace(microsecond=0),
                ca_fingerprint=edges.ca_fingerprint,
                cluster_domain=facts.cluster_domain,
                recovery_public_key=facts.settings.recovery_public_key,
            )

        return await retry_conflicts(attempt)

    async def _change(self, facts: BackupFacts, **fields: object) -> BackupSettings:
        settings = BackupSettings()
        settings.CopyFrom(facts.settings)
        for name, value in fields.items():
            setattr(settings, name, value)
        await self._edges.store.write(facts.with_settings(settings))
        return settings

    async def _is_due(self, shelf: Shelf, interval_s: int) -> bool:
        kept = await shelf.kept()
        if not kept:
            return True
        age = self._edges.clock.wall() - kept[0].header.created.ToDatetime(
            tzinfo=self._edges.clock.wall().tzinfo
        )
        # One from the future was made by a clock that was wrong then, or is wrong now.
        return not timedelta(0) <= age < timedelta(seconds=interval_s)

    def _has_just_failed(self) -> bool:
        failed_at_s = self._failed_at_s
        now_s = asyncio.get_running_loop().time()
        return failed_at_s is not None and now_s - failed_at_s < FAILED_S


def _too_slow() -> DeadlineExceededError:
    return DeadlineExceededError(
        "the backup was read so slowly that its revision is gone",
        remedy="Try again over a faster connection, or fetch a scheduled backup.",
    )


def _require_key(facts: BackupFacts) -> None:
    if not facts.settings.recovery_public_key:
        raise FailedPreconditionError(
            "the cluster has no recovery key to encrypt a backup to",
            remedy="Make and register one with `metroctl cluster backup keygen`.",
        )
