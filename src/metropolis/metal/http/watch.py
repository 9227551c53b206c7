# SPDX-License-Identifier: Apache-2.0
"""Lists that go on: what changes, line by line, as long as somebody reads.

    GET /v1/machine                       the answer's `x-revision` says how new it is
    GET /v1/machine?watch=<revision>      NDJSON: every change after that, and a beat every 15 s
    GET /v1/machine?watch=now             only what changes from now on

    {"revision":7,"operation":"replace","id":"…","value":{…}}
    {"revision":9,"operation":"delete","id":"…"}
    {"revision":9,"operation":"beat"}

A value is what the operation that reads one entity answers to this caller at that moment, so it
may be newer than the revision beside it, never older. Nothing is held for a watcher but its place;
and for one that is confined to projects the ids that it was told, because the end of anything else
is not its business.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from metropolis.base.errors import (
    InvalidArgumentError,
    MetropolisError,
    NotFoundError,
    OutOfRangeError,
    chain,
)
from metropolis.metal.masterdata.model import PROJECTS, TENANTS
from metropolis.metal.model.event import EVENTS
from metropolis.metal.model.image import IMAGES
from metropolis.metal.model.ip import IPS
from metropolis.metal.model.layout import LAYOUTS
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.network import NETWORKS
from metropolis.metal.model.partition import PARTITIONS
from metropolis.metal.model.reservation import RESERVATIONS
from metropolis.metal.model.size import SIZES
from metropolis.metal.model.size_image_constraint import SIZE_IMAGE_CONSTRAINTS
from metropolis.metal.model.switch import SWITCH_STATUSES, SWITCHES
from metropolis.metal.store import Change, Kind, Store

LOG: Final = logging.getLogger("metropolis.metal.http")
PARAMETER: Final = "watch"
CONTENT_TYPE: Final = "application/x-ndjson"
BEAT_S: Final = 15.0
LIFE_S: Final = 3600.0  # then a client asks again, and is asked again who it is
QUEUE_MAX: Final = 64  # batches of changes; who reads slower waits longer, nothing is lost
NOW: Final = "now"

# By the list that is watched: the kinds whose changes matter, whose ids are the entity's.
WATCHED: Final[Mapping[str, tuple[Kind[Any], ...]]] = {
    "listMachines": (MACHINES, EVENTS),
    "listFirewalls": (MACHINES, EVENTS),
    "listImages": (IMAGES,),
    "listIPs": (IPS,),
    "listFilesystemLayouts": (LAYOUTS,),
    "listNetworks": (NETWORKS,),
    "listPartitions": (PARTITIONS,),
    "listProjects": (PROJECTS,),
    "listSizes": (SIZES,),
    "listSizeImageConstraints": (SIZE_IMAGE_CONSTRAINTS,),
    "listSizeReservations": (RESERVATIONS,),
    "listSwitches": (SWITCHES, SWITCH_STATUSES),
    "listTenants": (TENANTS,),
}


class ChangeLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a watched list."""

    revision: int
    operation: Literal["insert", "replace", "delete", "beat", "lost"]
    id: str = ""
    value: msgspec.Raw = msgspec.Raw(b"")


@dataclass(slots=True, kw_only=True)
class Sight:
    """What a confined caller knows of a list.

    Attributes:
        ids: Of what is in it, as this caller sees it.
        since: The revision from which on `ids` holds all that it can have seen.
    """

    ids: set[str]
    since: int


async def sight_of(store: Store, body: bytes, key: tuple[str, ...]) -> Sight:
    """Return what a caller knows who was just answered this list.

    Args:
        key: Path of the id in a row.
    """
    ids: set[str] = set()
    for row in msgspec.json.decode(body):
        value = row
        for name in key:
            value = value[name]
        ids.add(value)
    return Sight(ids=ids, since=await store.read(lambda reader: reader.revision()))


async def start_of(store: Store, given: str) -> int:
    """Return the revision after which to watch.

    Raises:
        InvalidArgumentError: it is none.
    """
    if given in {NOW, "true"}:
        return await store.read(lambda reader: reader.revision())
    if not given.isascii() or not given.isdigit() or len(given) > 18:  # noqa: PLR2004  # of int64
        raise InvalidArgumentError(f"{PARAMETER} must be a revision, or {NOW!r}")
    return int(given)


class Watch:
    """One watched list."""

    def __init__(
        self,
        store: Store,
        *,
        kinds: Sequence[Kind[Any]],
        after: int,
        read: Callable[[str], Awaitable[bytes]],
        still_allowed: Callable[[], Awaitable[object]],
        sight: Sight | None = None,
    ) -> None:
        """Prepare.

        Args:
            read: Returns an entity as this caller sees it.
            sight: None: the caller may see everything.
            still_allowed: Raises once the caller may not read any longer.
        """
        self._store = store
        self._kinds = {kind.name for kind in kinds}
        self._revision = after
        self._read = read
        self._still_allowed = still_allowed
        self._sight = sight
        self._changes: asyncio.Queue[Sequence[Change] | None] = asyncio.Queue(QUEUE_MAX)

    async def run(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Write lines until cancelled, or until the life of a watch is over."""
        async with asyncio.TaskGroup() as group:
            source = group.create_task(self._gather())
            try:
                async with asyncio.timeout(LIFE_S):
                    await self._write_lines(write)
            except TimeoutError:
                pass
            except MetropolisError as error:  # what it is to be told, asking again tells it
                LOG.info("a watch ended: %s", chain(error))
            finally:
                source.cancel()

    async def _gather(self) -> None:
        try:
            async for changes in self._store.watch(self._revision):
                await self._changes.put(changes)
        except OutOfRangeError:
            await self._changes.put(None)
        except MetropolisError as error:
            LOG.warning("a watch lost the database: %s", chain(error))
            await self._changes.put(None)

    async def _write_lines(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        await write(_line(ChangeLine(revision=self._revision, operation="beat")))
        while True:
            try:
                async with asyncio.timeout(BEAT_S):
                    changes = await self._changes.get()
            except TimeoutError:
                await self._still_allowed()
                await write(_line(ChangeLine(revision=self._revision, operation="beat")))
                continue
            if changes is None:
                await write(_line(ChangeLine(revision=self._revision, operation="lost")))
                return
            await self._still_allowed()
            try:
                lines = await self._lines(changes)
            except OutOfRangeError:
                await write(_line(ChangeLine(revision=self._revision, operation="lost")))
                return
            if lines:
                await write(b"".join(lines))

    async def _lines(self, changes: Sequence[Change]) -> list[bytes]:
        """Return a line for each entity that changed, however often it did in this batch."""
        newest: dict[str, Change] = {}
        for change in changes:
            self._revision = change.revision
            if change.kind in self._kinds:
                newest.pop(change.id, None)
                newest[change.id] = change
        lines = [await self._line_of(change) for change in newest.values()]
        return [line for line in lines if line]

    async def _line_of(self, change: Change) -> bytes:
        """Return a line, or nothing when it is about what this caller never saw.

        Raises:
            OutOfRangeError: it cannot be told any more whether the caller did.
        """
        try:
            value = await self._read(change.id)
        except NotFoundError:  # gone, or not for this caller's eyes
            if self._sight is not None and change.id not in self._sight.ids:
                if change.revision > self._sight.since:
                    return b""
                raise OutOfRangeError(
                    "what a confined caller saw before it began to watch is not known",
                    remedy="Read the list anew, and watch from the revision of that.",
                ) from None
            if self._sight is not None:
                self._sight.ids.discard(change.id)
            return _line(ChangeLine(revision=change.revision, operation="delete", id=change.id))
        if self._sight is not None:
            self._sight.ids.add(change.id)
        operation = "replace" if change.operation == "delete" else change.operation
        return _line(
            ChangeLine(
                revision=change.revision,
                operation=operation,
                id=change.id,
                value=msgspec.Raw(value),
            )
        )


def _line(line: ChangeLine) -> bytes:
    return msgspec.json.encode(line) + b"\n"
