# SPDX-License-Identifier: Apache-2.0
"""What all tests share: repeatable examples, cheap garbage collection, databases.

Hypothesis tries the same examples in every run: a red test is red for everybody.
`METROPOLIS_EXPLORE=1` looks at new ones; what it finds becomes an example in the test.
"""

import gc
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from kits.postgres import PostgresServer

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("explore" if os.environ.get("METROPOLIS_EXPLORE") else "repeatable")

# Who starts the tests in the background of a script has them ignore Ctrl-C, and so would every
# program that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def garbage() -> None:
    """Let the garbage collector pass over what is left of earlier modules, and over all tests.

    Many tests collect garbage to see what a scenario left behind. To look through everything that
    lives as long as the run takes up to half a second each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator["PostgresServer"]:
    """A private PostgreSQL server, see kits/postgres.py."""
    from kits.postgres import PostgresServer  # noqa: PLC0415  # most tests need none

    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres_server: "PostgresServer") -> Iterator[str]:
    """Address of an empty PostgreSQL database with the newest schema of Metal."""
    name = postgres_server.new_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest) -> str:
    """Address of an empty database of Metal: the test runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return ":memory:"
    return str(request.getfixturevalue("postgres_url"))
