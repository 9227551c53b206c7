# SPDX-License-Identifier: Apache-2.0
"""Wakes whoever waits for a change of one machine: one watch of the store for all of them."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import final

from metropolis.base.errors import MetropolisError, OutOfRangeError
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.store import Reader, Store


@final
class Waiters:
    """The streams of this replica that wait, by machine."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[str, list[asyncio.Event]] = {}

    @contextmanager
    def waiting(self, machine_id: str) -> Generator[asyncio.Event, None, None]:
        """Yield an event that is set whenever the machine may have changed."""
        event = asyncio.Event()
        self._waiting.setdefault(machine_id, []).append(event)
        try:
            yield event
        finally:
            others = self._waiting[machine_id]
            others.remove(event)
            if not others:
                del self._waiting[machine_id]

    def is_awaited(self, machine_id: str) -> bool:
        """Tell whether a stream of this replica waits for a machine."""
        return machine_id in self._waiting

    async def run(self, *, pause_s: float) -> None:
        """Wake, for as long as this replica runs.

        Args:
            pause_s: Before the database is asked again after it was away.
        """
        while True:
            try:
                revision = await self._store.read(_revision)
                self._wake(self._waiting)  # what changed before the watch began
                async for changes in self._store.watch(revision):
                    self._wake({each.id for each in changes if each.kind == MACHINES.name})
            except OutOfRangeError:
                continue
            except MetropolisError as error:
                if not error.retryable:
                    raise
                await asyncio.sleep(pause_s)

    def _wake(self, machine_ids: "set[str] | dict[str, list[asyncio.Event]]") -> None:
        for machine_id in sorted(machine_ids):
            for event in self._waiting.get(machine_id, ()):
                event.set()


async def _revision(reader: Reader) -> int:
    return await reader.revision()
