# SPDX-License-Identifier: Apache-2.0
"""`metropolis metal backup` by hand, and a replica that restores before it serves."""

import asyncio
import logging
from pathlib import Path

import pytest

from metropolis.host.linux.clock import LinuxClock
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.lab import main as program
from metropolis.lab.commands.metal_backup import safekeeping
from metropolis.metal.access.hmac import HmacKeys
from metropolis.metal.access.role import Role
from metropolis.metal.main import Serving
from metropolis.metal.main import run as run_replica
from metropolis.metal.model.partition import PARTITIONS, Partition
from metropolis.metal.settings import Settings
from metropolis.metal.site import Site
from metropolis.metal.store.opening import open_store
from unit.metal.inventory.s3_server import s3_server


async def fill(database: str) -> None:
    store = await open_store(database, clock=LinuxClock())
    await store.write(lambda tx: tx.insert(PARTITIONS, "fra", Partition(name="Frankfurt")))
    await store.close()


class Program:
    """Runs the program and returns what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str, status: int = 0) -> str:
        assert program.main(["metal", "backup", *words]) == status
        said = self._capsys.readouterr()
        return said.err if status else said.out


def test_a_backup_is_made_listed_verified_and_restored_by_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metal = Program(capsys)
    database, empty, key = (str(tmp_path / name) for name in ("metal.db", "empty/metal.db", "key"))
    place = str(tmp_path / "backups")
    asyncio.run(fill(database))
    metal("keygen", key)
    assert Path(key).stat().st_mode & 0o777 == 0o600
    assert "exists" in metal("keygen", key, status=1)
    access = ["--to", place, "--key-file", key]
    name = metal("create", "--database", database, *access).strip()
    assert name in metal("list", "--to", place)
    assert f"{name}: good" in metal("verify", *access)
    assert name in metal("restore", "--database", empty, *access)
    assert "not empty" in metal("restore", "--database", empty, *access, status=1)
    (tmp_path / "backups" / name).write_bytes(b"METAL")
    assert f"{name}: this backup is damaged" in metal("verify", name, *access, status=1)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["create"], "--to DIRECTORY"),
        (["create", "--to", "x"], "keygen FILE"),
        (["list", "--to", "s3://bucket"], "all options of it"),
        (["list", "--to", "s3://"], "all options of it"),
        (["verify", "--to", "none", "--key-file", "KEY"], "Make one"),
        (["create", "--to", "x", "--key-file", "KEY", "--database", "none.db"], "--database"),
        (["create", "--to", "x", "--key-file", "BAD"], "keygen FILE"),
        (["create", "--database", "postgresql://u:secret@h/d"], "~/.pgpass"),
        (["create", "--database", "postgresql://h/d?password=secret"], "~/.pgpass"),
        (["restore", "--to", "none", "--key-file", "KEY", "--database", "d.db"], "create"),
    ],
)
def test_every_mistake_names_the_fix(
    words: list[str],
    remedy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("KEY", "ab" * 32), ("BAD", "abc")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    said = Program(capsys)(*words, status=1)
    assert said.startswith("error: ")
    assert remedy in said.splitlines()[1]
    assert "secret@" not in said


def test_a_bucket_is_used_by_its_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metal = Program(capsys)
    database, key = str(tmp_path / "metal.db"), str(tmp_path / "key")
    asyncio.run(fill(database))
    metal("keygen", key)
    with s3_server() as settings:
        files = {"access": settings.access_key, "secret": settings.secret_key}
        for name, text in files.items():
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o600)
        place = [
            *("--to", f"s3://{settings.bucket}/site/1", "--s3-endpoint", settings.endpoint),
            *("--s3-access-key-file", str(tmp_path / "access")),
            *("--s3-secret-key-file", str(tmp_path / "secret")),
        ]
        name = metal("create", "--database", database, "--key-file", key, *place).strip()
        assert name in metal("list", *place)
        assert "good" in metal("verify", "--key-file", key, *place)


def test_a_replica_with_an_empty_database_restores_the_newest_backup_before_it_serves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    metal = Program(capsys)
    database, key, place = (str(tmp_path / name) for name in ("metal.db", "key", "backups"))
    asyncio.run(fill(database))
    metal("keygen", key)
    name = metal("create", "--database", database, "--to", place, "--key-file", key).strip()
    kept = safekeeping(
        backup_to=place,
        backup_key_file=key,
        backup_every="6h",
        backup_keep=1,
        backup_keep_days=0,
        backup_s3_endpoint=None,
        backup_s3_region=None,
        backup_s3_access_key_file=None,
        backup_s3_secret_key_file=None,
    )
    serving = Serving(
        database=str(tmp_path / "new.db"),
        host="127.0.0.1",
        tcp_port=0,
        settings=Settings(check_urls=False),
        keys=HmacKeys(keys={Role.VIEW: b"view", Role.EDIT: b"edit", Role.ADMIN: b"admin"}),
        backup=kept,
    )

    async def scenario() -> list[str]:
        stop = asyncio.Event()
        sites: list[Site] = []

        def started(site: Site, _: str) -> None:
            sites.append(site)
            stop.set()

        await run_replica(
            serving, clock=LinuxClock(), entropy=LinuxEntropy(), stop=stop, started=started
        )
        store = await open_store(serving.database, clock=LinuxClock())
        found = await store.read(lambda reader: reader.find(PARTITIONS))
        await store.close()
        return [each.id for each in found]

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(scenario()) == ["fra"]
    assert f"the database was empty: restored {name}" in caplog.text
