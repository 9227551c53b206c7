# SPDX-License-Identifier: Apache-2.0
"""Reads from the cache that are never stale.

A read waits for a check that *started after the read arrived*: a linearizable look at the election
key, which also names the store's revision; then for the cache to be complete up to that revision.
One check serves every read that was waiting when it started, so a storm of reads costs one check
after another, never one each.

    reads      a  b        c d e f
    checks      [-a-------][-b-c-d-e-f---]...
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from metropolis.base.errors import MetropolisError, UnavailableError
from metropolis.cluster.state.fenced import lost_leadership

WAIT_S_MAX: Final = 8.0  # a store without quorum says so before; callers wait 10 s


class ReadGate:
    """See the module's docstring. `run` must be running.

    Args:
        confirm: Confirms the leadership and returns the store's revision.
        reach: Waits until the cache is complete up to a revision.
    """

    def __init__(
        self, confirm: Callable[[], Awaitable[int]], reach: Callable[[int], Awaitable[None]]
    ) -> None:
        self._confirm = confirm
        self._reach = reach
        self._waiting: list[asyncio.Future[None]] = []
        self._wake = asyncio.Event()
        self._is_closed = False
        self.checks = 0  # how many were made

    async def wait(self) -> None:
        """Return once the cache holds everything that was acknowledged before this call.

        Raises:
            NotLeaderError: leadership is lost.
            UnavailableError: the store does not answer.
        """
        if self._is_closed:
            raise lost_leadership()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._wake.set()
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                await future
        except TimeoutError:
            raise UnavailableError(
                "the consensus does not answer in time",
                remedy="Check that a majority of its members is up, then retry.",
            ) from None

    async def run(self) -> None:
        """Serve the reads. Cancelled, it refuses all that wait and all that come."""
        batch: list[asyncio.Future[None]] = []
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                batch, self._waiting = self._waiting, []
                await self._serve(batch)
        finally:
            self._is_closed = True
            _refuse([*batch, *self._waiting], lost_leadership())

    async def _serve(self, batch: list[asyncio.Future[None]]) -> None:
        self.checks += 1
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                await self._reach(await self._confirm())
        except TimeoutError:
            return  # those who waited that long have given up by themselves
        except MetropolisError as error:
            _refuse(batch, error)
            return
        for future in batch:
            if not future.done():
                future.set_result(None)


def _refuse(batch: list[asyncio.Future[None]], error: MetropolisError) -> None:
    for future in batch:
        if not future.done():
            future.set_exception(error)
