# SPDX-License-Identifier: Apache-2.0
"""Writes to a cluster from every side, and remembers which ones were acknowledged."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count

from e2e.cluster.site import CALM_S, LOOK_AGAIN_S, Site
from metropolis.api.management_pb2 import Node
from metropolis.base.errors import MetropolisError
from metropolis.ctl import nodes
from metropolis.ctl.connection import Cluster

WRITE_TIMEOUT_S = 4.0
PAUSE_S = 0.3
SLOTS = 20  # labels of one writer; a node has room for 128
_names = count(1)


class Ledger:
    """One writer per machine's address. Each sets labels of its own, with growing numbers."""

    def __init__(self, site: Site, known: Mapping[int, Node]) -> None:
        self._site = site
        self._name = f"ledger{next(_names)}"
        self._targets = [known[number].id for number in sorted(known)]
        self._acknowledged: dict[tuple[str, str], int] = {}  # node id, label -> newest number
        self._counts = dict.fromkeys(site.numbers, 0)

    @asynccontextmanager
    async def writing(self, through: Sequence[int] = ()) -> AsyncIterator[None]:
        """Write while the block runs, through the addresses of these machines; all by default."""
        async with asyncio.TaskGroup() as group:
            writers = [
                group.create_task(self._write(number)) for number in through or self._site.numbers
            ]
            yield
            for writer in writers:
                writer.cancel()

    async def wait_writes(
        self, more: int, *, through: Sequence[int] = (), within_s: float = CALM_S
    ) -> None:
        """Wait until so many more writes were acknowledged; through each of these machines."""
        before = dict(self._counts)
        total = sum(before.values())

        async def problem() -> str | None:
            late = [each for each in through if self._counts[each] < before[each] + more]
            if late or sum(self._counts.values()) < total + more:
                return f"acknowledged so far {self._counts}, before {before}"
            return None

        await self._site.eventually("writes", problem, within_s=within_s)

    def check(self, found: Mapping[int, Node]) -> None:
        """Check that the cluster still has every write that it acknowledged.

        A write that was not acknowledged may have happened or not, so a label may be newer.
        """
        assert self._acknowledged, "nothing was acknowledged"
        stored = {
            (node.id, pair.key): int(pair.value)
            for node in found.values()
            for pair in node.labels.pairs
            if pair.key.startswith(f"{self._name}-")
        }
        lost = {
            label: (number, stored.get(label))
            for label, number in self._acknowledged.items()
            if stored.get(label, 0) < number
        }
        assert not lost, f"acknowledged and lost (newest acknowledged, found): {lost}"

    async def _write(self, through: int) -> None:
        """Write for ever. The labels of one writer are on one node; numbers only grow.

        A client knows the endpoints that it was given. When the one of this writer has moved, the
        operator gives it the new one.
        """
        numbers = count(1)
        while True:
            address = self._site.cluster.rack.address(through)
            async with self._site.operator(through) as connection:
                while self._site.cluster.rack.address(through) == address:
                    await self._write_one(connection, through, next(numbers))

    async def _write_one(self, connection: Cluster, through: int, number: int) -> None:
        target = self._targets[through % len(self._targets)]
        label = f"{self._name}-{through}-{number % SLOTS}"
        try:
            await nodes.update_labels(
                connection.channel,
                target,
                upsert={label: str(number)},
                timeout_s=WRITE_TIMEOUT_S,
            )
        except MetropolisError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(LOOK_AGAIN_S)
            return
        self._acknowledged[target, label] = number
        self._counts[through] += 1
        await asyncio.sleep(PAUSE_S)
