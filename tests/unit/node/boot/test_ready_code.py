# SPDX-License-Identifier: Apache-2.0
"""Data classes whose functions were compiled before are what they would be without."""

import dataclasses
import importlib
import sys
from collections.abc import Generator
from types import ModuleType

import pytest

from metropolis.image.ready_code import table_source
from metropolis.node.boot import ready_code

SOURCE = """\
def __create_fn__(factor):
 def scaled(value):
  return value * factor + OFFSET
 return scaled,"""
OFFSET = 1


@pytest.fixture
def table() -> Generator[str, None, None]:
    name = "of_a_test"
    module = ModuleType(ready_code.TABLES.format(name))
    exec(table_source([SOURCE]), module.__dict__)
    sys.modules[module.__name__] = module
    yield name
    del sys.modules[module.__name__]
    vars(dataclasses).pop("exec", None)


def test_a_known_source_is_not_compiled_and_an_unknown_one_is(table: str) -> None:
    assert ready_code.use(table)
    run = vars(dataclasses)["exec"]
    for source in (SOURCE, SOURCE.replace("scaled", "enlarged")):
        found: dict[str, object] = {}
        run(source, {"OFFSET": OFFSET}, found)
        (function,) = found["__create_fn__"](3)  # type: ignore[operator]
        assert function(5) == 16


def test_classes_work_as_ever_with_a_table(table: str) -> None:
    ready_code.use(table)

    @dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
    class Point:
        x_m: int
        y_m: int = 2

    assert Point(x_m=1) == Point(x_m=1, y_m=2)
    assert repr(Point(x_m=1)).endswith("Point(x_m=1, y_m=2)")
    assert hash(Point(x_m=1)) == hash(Point(x_m=1))


def test_without_a_table_nothing_is_changed() -> None:
    assert not ready_code.use("nobody_made_it")
    assert "exec" not in vars(dataclasses)
    assert importlib.import_module("dataclasses") is dataclasses
