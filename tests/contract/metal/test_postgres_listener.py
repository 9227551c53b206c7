# SPDX-License-Identifier: Apache-2.0
"""The connection that listens for news of other replicas, and its end."""

import asyncio

import asyncpg
import pytest

from metropolis.metal.store.postgres_listener import Listener
from metropolis.metal.store.postgres_pool import Connection


def test_a_watcher_that_leaves_while_its_connection_is_made_leaves_none_behind(
    postgres_url: str,
) -> None:
    async def scenario() -> None:
        made: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()

        async def connect() -> Connection:
            connection: Connection = await asyncpg.connect(postgres_url)
            made.set_result(connection)
            return connection

        listener = Listener(connect)
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(listener.listening())
            connection = await made
            watcher.cancel()  # the server has not yet heard what it is to tell of
        with pytest.raises(asyncio.CancelledError):
            await watcher
        await listener.close()
        assert connection.is_closed()

    asyncio.run(scenario())
