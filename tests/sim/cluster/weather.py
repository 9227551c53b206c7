# SPDX-License-Identifier: Apache-2.0
"""Bad weather for a bench: delays, lost replies, and leaders that do not know that they lost."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar, final

from metropolis.base.errors import MetropolisError
from metropolis.cluster.leader import Leader
from metropolis.cluster.state import keys
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.memory.faults import Faults
from metropolis.consensus.store import Compare, Delete, Put, Target
from unit.cluster.harness import Bench

T = TypeVar("T")


@final
class Weather:
    """Delays always, lost replies often, until it calms down."""

    def __init__(self, seed: int) -> None:
        self._draw = Random(seed)
        self.is_calm = False
        self.loses_nothing = False

    def faults(self) -> Faults:
        return Faults(
            delay_s=lambda _: self._delay_s(0.05),
            replication_delay_s=lambda _: self._delay_s(0.1),
            loses_reply=lambda _: (
                not (self.is_calm or self.loses_nothing) and self._draw.random() < 0.15
            ),
        )

    def _delay_s(self, longest_s: float) -> float:
        return 0.0 if self.is_calm else self._draw.uniform(0, longest_s)


@final
class Cabinet:
    """Who leads, and who believes to."""

    def __init__(self, bench_: Bench, seed: int) -> None:
        self._bench = bench_
        self._draw = Random(seed + 1)
        self.leaders = [bench_.leader]
        self.gates: list[asyncio.Task[None]] = []

    async def elect(self) -> None:
        """Let another leader take over; the old ones do not notice."""
        first = self._bench.leader
        lock = keys.LEADER + b"1"
        await insist(lambda: self._bench.store.transact([], [Delete(lock)]))
        await insist(lambda: self._bench.store.transact([], [Put(lock, b"next")]))
        found = await insist(lambda: self._bench.store.get(lock))
        assert found is not None
        leader = Leader(
            first.own,
            ConsensusStatus(
                store=self._bench.store, membership=self._bench.membership, member_id=1
            ),
            self._bench.nodes,
            fence=Compare(lock, Target.CREATE_REVISION, found.create_revision),
        )
        self.gates.append(self._bench.group.create_task(leader.gate.run()))
        self.leaders = [*self.leaders[-2:], leader]

    async def revolt(self, draw: Random, *, longest_s: float) -> None:
        """Let three leaders follow each other."""
        for _ in range(3):
            await asyncio.sleep(draw.uniform(0.2, longest_s))
            await self.elect()

    def close(self) -> None:
        """End what the leaders run."""
        for gate in self.gates:
            gate.cancel()

    async def ask(self, call: Callable[[Leader], Awaitable[T]]) -> T:
        """Call some leader until one answers; refusals are the caller's."""
        while True:
            try:
                return await call(self._draw.choice(self.leaders))
            except MetropolisError as error:
                if not error.retryable:
                    raise
                await asyncio.sleep(self._draw.uniform(0, 0.3))


async def insist(attempt: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await attempt()
        except MetropolisError:
            await asyncio.sleep(0.1)
