# SPDX-License-Identifier: Apache-2.0
"""A private, real PostgreSQL for tests: one server per test process, one database per test.

Ask for a fixture (they are in tests/conftest.py, nothing to import):

    postgres_url     address of an empty database with the newest schema, dropped afterwards
    store_url        the same test on SQLite in memory, then on PostgreSQL
    postgres_server  the server: `.new_database()`, `.url(name)`, for tests that need more

    def test_something(store_url: str) -> None:
        async def scenario() -> None:
            store = await open_store(store_url, clock=StillClock())
            ...
            await store.close()

        asyncio.run(scenario())

The server runs as an unprivileged user on a unix socket below /tmp, without durability; it ends
with the test process however that ends. The first test to ask waits about two seconds for it, a
database takes 30 ms.
"""

import asyncio
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg

from metropolis.host.linux.clock import LinuxClock
from metropolis.metal.store.opening import open_postgres

KEEPER = Path(__file__).with_name("postgres_keeper.py")
TEMPLATE = "metal_template"


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run it on a thread: the test may be inside of a loop of its own."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


class PostgresServer:
    """A server that this process started.

    Args:
        durable: With the settings that a server has by default, for figures.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="metal-postgres-"))  # the keeper removes it
        self._keeper = subprocess.Popen(
            [sys.executable, str(KEEPER), str(self.directory), *(["durable"] if durable else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # an interrupt at the terminal is for the tests
        )
        assert self._keeper.stdout is not None
        answer = self._keeper.stdout.readline().strip()
        assert answer == "ready", answer + self._keeper.stdout.read()
        self._numbers = itertools.count(1)
        _run(self._make_template())

    def url(self, database: str) -> str:
        """Return the address of a database."""
        return f"postgresql:///{database}?host={self.directory}&user=postgres"

    def new_database(self, *, empty: bool = False) -> str:
        """Make a database and return its name; `empty` has not even tables."""
        name = f"test_{next(self._numbers)}"
        template = "template0" if empty else TEMPLATE
        _run(self.execute(f"CREATE DATABASE {name} TEMPLATE {template}"))
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        _run(self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))

    async def execute(self, statement: str) -> None:
        """Run a statement as the superuser."""
        connection = await asyncpg.connect(self.url("postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def stop(self) -> None:
        """Stop the server and remove its files."""
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.close()
        self._keeper.wait(timeout=30)
        self._keeper.stdout.close()

    async def _make_template(self) -> None:
        await self.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
        store = await open_postgres(self.url(TEMPLATE), clock=LinuxClock())
        await store.close()
