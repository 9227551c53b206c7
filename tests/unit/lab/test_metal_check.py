# SPDX-License-Identifier: Apache-2.0
"""`metropolis metal check` says whether the books of a database agree."""

import asyncio
from pathlib import Path

import pytest

from metropolis.host.linux.clock import LinuxClock
from metropolis.lab import main as program
from metropolis.metal.ipam.pools import VRF, acquire_integer
from metropolis.metal.ipam.prefixes import create_prefix
from metropolis.metal.store import Transaction
from metropolis.metal.store.opening import open_store


async def leak(database: str) -> None:
    """Take a prefix and a number for nobody."""

    async def body(tx: Transaction) -> None:
        await create_prefix(tx, "10.0.0.0/8")
        await acquire_integer(tx, VRF, 7)

    store = await open_store(database, clock=LinuxClock())
    await store.write(body)
    await store.close()


async def make(database: str) -> None:
    await (await open_store(database, clock=LinuxClock())).close()


def test_books_that_agree_and_books_that_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = str(tmp_path / "metal.db")
    command = ["metal", "check", "--database", database]
    assert program.main(command) == 1
    assert "no database" in capsys.readouterr().err
    assert not Path(database).exists()
    asyncio.run(make(database))
    assert program.main(command) == 0
    assert capsys.readouterr().out == "the books agree\n"
    asyncio.run(leak(database))
    assert program.main(command) == 1
    said = capsys.readouterr()
    assert [line.split(":")[0] for line in said.out.splitlines()] == ["prefix 10.0.0.0/8", "vrf 7"]
    assert "2 places" in said.err
