# SPDX-License-Identifier: Apache-2.0
"""Wakes whoever waits for a change of some entity: one watch of the store for all of them."""

import asyncio
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Final, TypeAlias, final

from metropolis.base.errors import MetropolisError, OutOfRangeError
from metropolis.metal.store import Reader, Store

PAUSE_S: Final = 1.0
Thing: TypeAlias = tuple[str, str]  # name of a kind, and an id


@final
class Waiters:
    """The streams of this replica that wait, by what they wait for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[Thing, list[asyncio.Event]] = {}

    @contextmanager
    def waiting(self, *things: Thing) -> Generator[asyncio.Event, None, None]:
        """Yield an event that is set whenever one of the things may have changed."""
        event = asyncio.Event()
        for thing in things:
            self._waiting.setdefault(thing, []).append(event)
        try:
            yield event
        finally:
            for thing in things:
                others = self._waiting[thing]
                others.remove(event)
                if not others:
                    del self._waiting[thing]

    def is_awaited(self, thing: Thing) -> bool:
        """Tell whether a stream of this replica waits for a thing."""
        return thing in self._waiting

    async def run(self, *, pause_s: float = PAUSE_S) -> None:
        """Wake, for as long as this replica runs.

        Args:
            pause_s: Before the database is asked again after it was away.
        """
        while True:
            try:
                revision = await self._store.read(_revision)
                self._wake(list(self._waiting))  # what changed before the watch began
                async for changes in self._store.watch(revision):
                    self._wake(dict.fromkeys((each.kind, each.id) for each in changes))
            except OutOfRangeError:
                continue
            except MetropolisError as error:
                if not error.retryable:
                    raise
                await asyncio.sleep(pause_s)

    def _wake(self, things: Iterable[Thing]) -> None:
        for thing in things:
            for event in self._waiting.get(thing, ()):
                event.set()


async def _revision(reader: Reader) -> int:
    return await reader.revision()
