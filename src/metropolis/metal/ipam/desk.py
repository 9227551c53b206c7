# SPDX-License-Identifier: Apache-2.0
"""Addresses for many callers at once: whoever asks while a transaction runs shares the next one.

A transaction waits for the database and its disk. A replica that serves many callers takes
addresses for all of them that have come meanwhile together; each gets its answer after the commit.

    callers ── by prefix ── workers ── one transaction for all that wait ── answers

The workers belong to nobody's call: a caller that goes away takes nothing with it, and what was
meant for it goes back.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple, TypeAlias, final

from metropolis.base.errors import MetropolisError
from metropolis.host import Entropy
from metropolis.metal.ipam.addresses import Address, acquire_addresses, release_address, texts_of
from metropolis.metal.ipam.blocks import parse_cidr
from metropolis.metal.ipam.claims import Claims
from metropolis.metal.store import Store

SHARED_MAX: Final = 64  # addresses in one transaction; a prefix offers so many at a time
WORKERS: Final = 4  # transactions at the same time, of different prefixes

_Answer: TypeAlias = "asyncio.Future[Address]"


class _Key(NamedTuple):
    namespace: str
    prefix: str


@final
class AddressDesk:
    """Hands out addresses of one store to the callers of this process; made by `open_desk`."""

    def __init__(self, store: Store, entropy: Entropy) -> None:
        self._store = store
        self._claims = Claims(store, entropy) if store.dialect == "postgres" else None
        self._waiting: dict[_Key, deque[_Answer]] = {}  # who came first, first
        self._busy: set[_Key] = set()  # prefixes for which a transaction is on its way
        self._idle: list[asyncio.Future[None]] = []  # workers that wait for somebody to come

    async def acquire(self, prefix: str, *, namespace: str = "") -> Address:
        """Take any address of a prefix; as `acquire_address`, in a transaction of its own.

        Raises:
            NotFoundError: there is no such prefix.
            InvalidArgumentError: the prefix is none.
            ResourceExhaustedError: none is left.
            FailedPreconditionError: the prefix has children.
        """
        key = _Key(namespace, prefix)
        answer: _Answer = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(answer)
        if key not in self._busy and self._idle:  # one is enough; who serves a prefix looks again
            self._idle.pop().set_result(None)
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                await self._give_back(answer.result())
            raise

    async def work(self) -> None:
        """Serve callers, one prefix at a time, for ever."""
        while True:
            key = self._next()
            if key is None:
                await self._rest()
                continue
            self._busy.add(key)
            try:
                await self._serve(key)
            finally:
                self._busy.discard(key)

    async def _rest(self) -> None:
        """Wait until somebody comes."""
        woken = asyncio.get_running_loop().create_future()
        self._idle.append(woken)
        try:
            await woken
        finally:
            if woken in self._idle:
                self._idle.remove(woken)

    def _next(self) -> _Key | None:
        """Return the prefix of whoever has waited longest and is not being served."""
        return next((key for key in self._waiting if key not in self._busy), None)

    async def _serve(self, key: _Key) -> None:
        while (waiting := self._waiting.get(key)) is not None:
            several = [waiting.popleft() for _ in range(min(len(waiting), SHARED_MAX))]
            if not waiting:
                del self._waiting[key]
            try:
                await self._take([answer for answer in several if not answer.done()], key)
            finally:
                for answer in several:
                    answer.cancel()  # of those that have none when we are stopped

    async def _take(self, answers: list[_Answer], key: _Key) -> None:
        if not answers:
            return
        count = len(answers)
        try:
            taken = await self._take_offered(key, count)
        except MetropolisError as error:
            _refuse(answers, error)
            return
        await self._hand_out(answers, taken)
        rest = answers[len(taken) :]
        if not rest:
            return
        try:
            taken = await self._store.write(
                lambda tx: acquire_addresses(tx, key.prefix, len(rest), namespace=key.namespace),
                serial=False,
            )
        except MetropolisError as error:
            if len(rest) == 1:
                _refuse(rest, error)
                return
            for answer in rest:  # there may be some, if not enough for all
                await self._take([answer], key)
        else:
            await self._hand_out(rest, taken)

    async def _take_offered(self, key: _Key, count: int) -> list[Address]:
        """Take what is to be had in one statement: all, mostly."""
        if self._claims is None:
            return []
        network = parse_cidr(key.prefix)
        packed = await self._claims.take(network, count, key.namespace)
        cidr = str(network)
        return [
            Address(address=text, prefix=cidr, namespace=key.namespace)
            for text in texts_of((each,) for each in packed)
        ]

    async def _hand_out(self, answers: list[_Answer], taken: list[Address]) -> None:
        """Answer the first callers, one address each."""
        unwanted: list[Address] = []
        for answer, address in zip(answers, taken, strict=False):
            if answer.done():
                unwanted.append(address)
            else:
                answer.set_result(address)
        for address in unwanted:
            await self._give_back(address)

    async def _give_back(self, address: Address) -> None:
        await self._store.write(
            lambda tx: release_address(
                tx, address.prefix, address.address, namespace=address.namespace
            ),
            serial=False,
        )


def _refuse(answers: list[_Answer], error: MetropolisError) -> None:
    for answer in answers:
        if not answer.done():
            answer.set_exception(error)


@asynccontextmanager
async def open_desk(store: Store, entropy: Entropy) -> AsyncGenerator[AddressDesk]:
    """Serve callers while the block runs."""
    desk = AddressDesk(store, entropy)
    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(desk.work()) for _ in range(WORKERS)]
        try:
            yield desk
        finally:
            for worker in workers:
                worker.cancel()
