# SPDX-License-Identifier: Apache-2.0
"""Addresses for many callers at once: whoever asks while a transaction runs shares the next one.

A transaction waits for the database and its disk. A replica that serves many callers takes
addresses for all of them that have come meanwhile together; each gets its answer after the commit.

    first caller ── leads ── one transaction for all that wait ── answers ── the next of them leads
"""

import asyncio
from collections import deque
from enum import Enum
from typing import Final, TypeAlias, final

from metropolis.base.errors import MetropolisError
from metropolis.metal.ipam.addresses import (
    Address,
    acquire_address,
    acquire_addresses,
    release_address,
)
from metropolis.metal.store import Store

SHARED_MAX: Final = 64  # addresses in one transaction; a prefix offers so many at a time


class _Turn(Enum):
    """What a caller that waits is told instead of an address."""

    LEAD = "take addresses for those who wait"
    ALONE = "there are not enough for all: try for yourself"


_Answer: TypeAlias = "asyncio.Future[Address | _Turn]"


@final
class AddressDesk:
    """Hands out addresses of one store to the callers of this process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[tuple[str, str], deque[_Answer]] = {}  # while somebody leads

    async def acquire(self, prefix: str, *, namespace: str = "") -> Address:
        """Take any address of a prefix; as `acquire_address`, in a transaction of its own.

        Raises:
            NotFoundError: there is no such prefix.
            InvalidArgumentError: the prefix is none.
            ResourceExhaustedError: none is left.
            FailedPreconditionError: the prefix has children.
        """
        key = (namespace, prefix)
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = deque()
            return await self._lead(key)
        answer: _Answer = asyncio.get_running_loop().create_future()
        waiting.append(answer)
        try:
            turn = await answer
        except asyncio.CancelledError:
            await self._leave(key, answer)
            raise
        if isinstance(turn, Address):
            return turn
        if turn is _Turn.LEAD:
            return await self._lead(key)
        return await self._acquire_alone(key)

    async def _acquire_alone(self, key: tuple[str, str]) -> Address:
        namespace, prefix = key
        return await self._store.write(
            lambda tx: acquire_address(tx, prefix, namespace=namespace), serial=False
        )

    async def _lead(self, key: tuple[str, str]) -> Address:
        """Take an address for ourselves, and for those who have come until the transaction ran."""
        namespace, prefix = key
        others: list[_Answer] = []
        try:
            # Whoever is ready to ask still joins.
            await asyncio.sleep(0)
            waiting = self._waiting[key]
            while waiting and len(others) < SHARED_MAX - 1:
                others.append(waiting.popleft())
            if not others:
                return await self._acquire_alone(key)
            count = len(others) + 1
            taken = await self._store.write(
                lambda tx: acquire_addresses(tx, prefix, count, namespace=namespace), serial=False
            )
        except MetropolisError:
            if not others:
                raise
            _tell(others, _Turn.ALONE)
            return await self._acquire_alone(key)
        except BaseException:  # we were cancelled; the others were not
            self._waiting[key].extendleft(reversed(others))
            raise
        finally:
            self._hand_over(key)
        unwanted: list[Address] = []
        for answer, address in zip(others, taken[1:], strict=True):
            if answer.done():
                unwanted.append(address)
            else:
                answer.set_result(address)
        for address in unwanted:
            await self._give_back(address)
        return taken[0]

    def _hand_over(self, key: tuple[str, str]) -> None:
        """Let the next of those who wait lead, if there is one."""
        waiting = self._waiting[key]
        while waiting:
            answer = waiting.popleft()
            if not answer.done():
                answer.set_result(_Turn.LEAD)
                return
        del self._waiting[key]

    async def _leave(self, key: tuple[str, str], answer: _Answer) -> None:
        """Give back what a caller got that is no longer there."""
        if not answer.done() or answer.cancelled():
            return
        got = answer.result()
        if isinstance(got, Address):
            await self._give_back(got)
        elif got is _Turn.LEAD:
            self._hand_over(key)

    async def _give_back(self, address: Address) -> None:
        await self._store.write(
            lambda tx: release_address(
                tx, address.prefix, address.address, namespace=address.namespace
            ),
            serial=False,
        )


def _tell(answers: list[_Answer], turn: _Turn) -> None:
    for answer in answers:
        if not answer.done():
            answer.set_result(turn)
