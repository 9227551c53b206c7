# SPDX-License-Identifier: Apache-2.0
"""Facets that a new release adds, and the list of all kinds."""

import asyncio
import importlib
import pkgutil

import msgspec
import pytest

import metropolis.metal
from metropolis.base.errors import DataLossError
from metropolis.metal.backup.tables import tables_of
from metropolis.metal.kinds import KINDS
from metropolis.metal.store import Kind
from metropolis.metal.store.indexing import index_kinds
from metropolis.metal.store.migrations import MIGRATIONS
from unit.metal.kit import memory_store, opened


class Thing(msgspec.Struct, kw_only=True, frozen=True):
    size: int = 0


OLD = Kind(name="thing", type=Thing)
NEW = Kind(name="thing", type=Thing, facets={"size": lambda thing: [thing.size]})
UNIQUE = Kind(
    name="thing",
    type=Thing,
    facets={"size": lambda thing: [thing.size]},
    unique=frozenset({"size"}),
)


def test_a_facet_that_a_release_adds_finds_what_is_there_already(store_url: str) -> None:
    async def scenario() -> None:
        async with opened(store_url) as store:
            for key in ("a", "b"):
                await store.write(lambda tx, k=key: tx.insert(OLD, k, Thing(size=7)))  # type: ignore[misc]
            assert await index_kinds(store, [OLD]) == ["thing"]
            assert await store.read(lambda reader: reader.count(NEW, {"size": 7})) == 0
            assert await index_kinds(store, [NEW]) == ["thing"]
            assert await store.read(lambda reader: reader.count(NEW, {"size": 7})) == 2
            assert await index_kinds(store, [NEW]) == []
            with pytest.raises(DataLossError, match="thing 'b' shares its size '7' with 'a'"):
                await index_kinds(store, [UNIQUE])
            assert await store.read(lambda reader: reader.count(NEW, {"size": 7})) == 2

    asyncio.run(scenario())


def test_every_kind_is_listed_under_a_name_of_its_own() -> None:
    found: dict[str, str] = {}
    for module in pkgutil.walk_packages(metropolis.metal.__path__, "metropolis.metal."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, Kind):
                found[name] = value.name  # one may be read as less than it is, under its name
    listed = {kind.name for kind in KINDS}
    assert [name for name, kind in found.items() if kind not in listed] == []
    assert len({kind.name for kind in KINDS}) == len(KINDS)


def test_a_backup_knows_every_table() -> None:
    async def scenario() -> None:
        async with memory_store() as store:
            rows = await store.read(
                lambda reader: reader.fetch(
                    "SELECT name FROM sqlite_master"
                    " WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
                )
            )
            assert [row[0] for row in rows] == tables_of(MIGRATIONS, "sqlite")

    asyncio.run(scenario())
