# SPDX-License-Identifier: Apache-2.0
"""The addresses of databases."""

import pytest

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.store.opening import sqlite_path


@pytest.mark.parametrize(
    ("database", "path"),
    [
        (":memory:", ":memory:"),
        ("sqlite://:memory:", ":memory:"),
        ("metal.db", "metal.db"),
        ("/var/lib/metal.db", "/var/lib/metal.db"),
        ("./a:b", "./a:b"),
        ("sqlite:///var/lib/metal.db", "/var/lib/metal.db"),
    ],
)
def test_a_path_is_an_address(database: str, path: str) -> None:
    assert sqlite_path(database) == path


@pytest.mark.parametrize(
    "database",
    ["", "sqlite://", "sqlite::memory:", "SQLite:metal.db", "file:a.db", "mysql://h", "pg:h/d"],
)
def test_what_only_looks_like_a_path_makes_no_file(database: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is no ") as caught:
        sqlite_path(database)
    assert "postgresql://" in caught.value.remedy


def test_a_misspelled_address_is_not_said_again_with_its_password() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        sqlite_path("postgresql:/metal:sesame@db/metal")
    assert "sesame" not in str(caught.value)
