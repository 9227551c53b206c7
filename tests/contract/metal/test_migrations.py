# SPDX-License-Identifier: Apache-2.0
"""Schema steps: from every version, on both databases, never backwards."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from kits.postgres import PostgresServer
from metropolis.base.errors import FailedPreconditionError
from metropolis.metal.store import Kind
from metropolis.metal.store.migrations import MIGRATIONS, SCHEMA_VERSION, Migration
from metropolis.metal.store.opening import open_store
from unit.metal.kit import StillClock


class Thing(msgspec.Struct, kw_only=True, frozen=True):
    size: int = 0


THINGS = Kind(name="thing", type=Thing)


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "metal.db")
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.new_database(empty=True)
    yield server.url(name)
    server.drop_database(name)


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_a_database_of_any_version_is_brought_up_to_date(empty_url: str, version: int) -> None:
    async def scenario() -> None:
        old = await open_store(empty_url, clock=StillClock(), migrations=MIGRATIONS[:version])
        await old.write(lambda tx: tx.insert(THINGS, "a", Thing(size=version)))
        await old.close()
        for _ in range(2):
            new = await open_store(empty_url, clock=StillClock())
            kept = await new.read(lambda reader: reader.get(THINGS, "a"))
            assert kept.value.size == version
            await new.write(lambda tx: tx.send("topic", Thing()), serial=False)
            await new.close()

    asyncio.run(scenario())


def test_a_database_of_a_newer_release_is_refused_with_what_to_do(empty_url: str) -> None:
    async def scenario() -> None:
        newer = (
            *MIGRATIONS,
            Migration(name="later", statements=("CREATE TABLE later (x {text})",)),
        )
        store = await open_store(empty_url, clock=StillClock(), migrations=newer)
        await store.close()
        with pytest.raises(
            FailedPreconditionError,
            match=f"version {SCHEMA_VERSION + 1}, this program knows {SCHEMA_VERSION}",
        ) as refused:
            await open_store(empty_url, clock=StillClock())
        assert refused.value.remedy.startswith("Use the release that wrote it")

    asyncio.run(scenario())


def test_a_step_that_fails_leaves_the_database_as_it_was(empty_url: str) -> None:
    async def scenario() -> None:
        broken = Migration(
            name="broken", statements=("CREATE TABLE half (x {text})", "CREATE NONSENSE")
        )
        store = await open_store(empty_url, clock=StillClock())
        await store.close()
        with pytest.raises(Exception, match=r"(?i)nonsense"):
            await open_store(empty_url, clock=StillClock(), migrations=(*MIGRATIONS, broken))
        store = await open_store(empty_url, clock=StillClock())
        with pytest.raises(Exception, match="half"):
            await store.read(lambda reader: reader.fetch("SELECT * FROM half"))
        await store.close()

    asyncio.run(scenario())
