# SPDX-License-Identifier: Apache-2.0
"""What `/v1/health` says, to whoever asks."""

import asyncio
import os
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.metal.backup.backups import Vault, list_backups
from metropolis.metal.backup.schedule import Plan, back_up_and_tell
from metropolis.metal.backup.shelf import DirectoryShelf
from metropolis.metal.kinds import KINDS
from metropolis.metal.store.sqlite import SqliteStore
from unit.metal.http.client import Client, serving

PLAN = Plan(every=timedelta(minutes=10))


def vault_in(directory: Path, client: Client) -> Vault:
    return Vault(
        shelf=DirectoryShelf(directory),
        secret=bytes(32),
        kinds=KINDS,
        clock=client.clock,
        entropy=LinuxEntropy(),
    )


async def health(client: Client, service: str = "") -> tuple[int, str, str]:
    query = f"?service={service}" if service else ""
    answer = await client.get(f"/v1/health{query}", headers={})
    return answer.status, answer.json["status"], answer.json["message"]


def test_every_part_is_told_of_and_can_be_asked_for_alone() -> None:
    async def scenario() -> None:
        async with serving() as client:
            answer = (await client.get("/v1/health", headers={})).json
            assert set(answer["services"]) == {"backup", "database", "ipam", "masterdata-api"}
            assert await health(client) == (200, "healthy", "")
            one = (await client.get("/v1/health?service=ipam", headers={})).json
            assert list(one["services"]) == ["ipam"]
            assert (await client.get("/v1/health?service=none", headers={})).status == 400

    asyncio.run(scenario())


def test_a_backup_that_failed_is_seen_until_one_succeeds(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "file").write_text("in the way")
        database = str(tmp_path / "metal.db")
        async with serving(url=database) as client:
            await client.put("/v1/size", {"id": "s", "constraints": []})
            store = client.site.store

            async def attempt(directory: Path) -> None:
                client.clock.advance(600)
                await back_up_and_tell(vault_in(directory, client), store, database, PLAN)

            await attempt(tmp_path / "file" / "backups")
            ill = (200, "degraded", "not well: backup")  # it serves: nobody sends users elsewhere
            assert await health(client) == ill
            backup = (await client.get("/v1/health?service=backup", headers={})).json
            assert "the log of the replica" in backup["services"]["backup"]["message"]
            await attempt(tmp_path / "backups")
            assert await health(client) == (200, "healthy", "")
            await client.put("/v1/size", {"id": "t", "constraints": []})
            await attempt(tmp_path / "file" / "backups")
            assert await health(client) == ill
            client.clock.advance(7200)  # nobody makes backups any longer
            assert await health(client) == (200, "healthy", "")

    asyncio.run(scenario())


def test_a_full_disk_is_seen_although_everything_can_be_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(url=str(tmp_path / "metal.db")) as client:
            store = client.site.store
            assert isinstance(store, SqliteStore)
            (pages,) = store._writer.execute("PRAGMA page_count").fetchone()
            store._writer.execute(f"PRAGMA max_page_count = {pages}")
            big = {"id": "s", "constraints": [], "description": "x" * 100_000}
            assert (await client.put("/v1/size", big)).status == 503
            assert (await client.get("/v1/size")).json == []
            status, judged, message = await health(client, "database")
            assert (status, judged, message) == (200, "degraded", "not well: database")
            told = (await client.get("/v1/health", headers={})).json["services"]["database"]
            assert "not kept in the last minutes: database or disk is full" in told["message"]
            store._writer.execute("PRAGMA max_page_count = 100000")
            assert (await client.put("/v1/size", big)).status == 201
            client.clock.advance(400)
            assert await health(client) == (200, "healthy", "")

    asyncio.run(scenario())


def test_a_backup_that_cannot_be_proven_is_made_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        database = str(tmp_path / "metal.db")
        async with serving(url=database) as client:
            await client.put("/v1/size", {"id": "s", "constraints": []})
            vault = vault_in(tmp_path / "backups", client)
            broken = Vault(
                shelf=_Damaging(tmp_path / "backups"),
                secret=vault.secret,
                kinds=KINDS,
                clock=client.clock,
                entropy=LinuxEntropy(),
            )
            client.clock.advance(600)
            await back_up_and_tell(broken, client.site.store, database, PLAN)
            assert (await health(client))[1] == "degraded"
            assert await list_backups(vault.shelf) == []
            client.clock.advance(600)
            await back_up_and_tell(vault, client.site.store, database, PLAN)
            assert len(await list_backups(vault.shelf)) == 1
            assert (await health(client))[1] == "healthy"

    asyncio.run(scenario())


class _Damaging:
    """A directory on a disk that loses the end of files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._shelf = DirectoryShelf(directory)

    async def put(self, name: str, content: BinaryIO) -> None:
        await self._shelf.put(name, content)
        path = self._directory / name
        os.truncate(path, path.stat().st_size - 40)

    async def get(self, name: str, into: BinaryIO) -> None:
        await self._shelf.get(name, into)

    async def names(self) -> list[str]:
        return await self._shelf.names()

    async def remove(self, name: str) -> None:
        await self._shelf.remove(name)
