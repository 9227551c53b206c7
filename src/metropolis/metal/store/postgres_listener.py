# SPDX-License-Identifier: Apache-2.0
"""News of other replicas: one connection that listens, opened when somebody waits for it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, final

import asyncpg

from metropolis.metal.store.postgres_pool import CONFUSED, Connection
from metropolis.metal.store.postgres_work import CHANNEL

_CLOSE_S: Final = 2.0


@final
class Listener:
    """LISTEN on a connection of its own; a lost connection counts as news and is opened again.

    Attributes:
        on_news: Called for every commit of any replica that changed an entity or sent a message.

    Args:
        connect: Opens a connection.
    """

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._opening = asyncio.Lock()
        self.on_news: Callable[[], None] = _nothing

    async def listening(self) -> None:
        """Return once news will be heard.

        A server that is away is no error here: who waits looks by itself every few seconds.
        """
        if self._connection is not None and not self._connection.is_closed():
            return
        async with self._opening:
            if self._connection is not None and not self._connection.is_closed():
                return
            with suppress(OSError, asyncpg.PostgresError, *CONFUSED):
                connection = await self._connect()
                try:
                    await connection.add_listener(CHANNEL, self._hear)
                except BaseException:  # nobody else knows of this connection
                    connection.terminate()
                    raise
                connection.add_termination_listener(self._hear)
                self._connection = connection

    def _hear(self, *_: object) -> None:
        self.on_news()

    async def close(self) -> None:
        """Stop listening."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            try:
                await connection.close(timeout=_CLOSE_S)
            except (OSError, asyncpg.PostgresError, *CONFUSED):
                connection.terminate()


def _nothing() -> None:
    pass
