# SPDX-License-Identifier: Apache-2.0
"""Modules from a pack are what they would be from files."""

import importlib
import importlib.util
import marshal
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from metropolis.formats import module_pack
from metropolis.node.boot.ready_modules import LAZY, offer, withdraw

SOURCES = {
    "birds_of_a_test": "from birds_of_a_test.song import NOTES\nSIZE = len(NOTES)\n",
    "birds_of_a_test.song": "NOTES = ['a', 'c']\n",
    "birds_of_a_test.egg": "WEIGHT_G = 50\n",
}
PACKED = ("birds_of_a_test", "birds_of_a_test.song")


@pytest.fixture
def place(tmp_path: Path) -> Generator[Path, None, None]:
    """A library with every module in a file, of which two are in a pack, too."""
    library = tmp_path / "library"
    (library / "birds_of_a_test").mkdir(parents=True)
    packed: list[tuple[str, int, str, bytes]] = []
    for name, text in SOURCES.items():
        is_package = "." not in name
        file = "__init__" if is_package else name.rpartition(".")[2]
        path = library / "birds_of_a_test" / f"{file}.pyc"
        code = marshal.dumps(compile(text, str(path), "exec"))
        path.write_bytes(importlib.util.MAGIC_NUMBER + bytes(12) + code)
        if name in PACKED:
            kind = module_pack.PACKAGE if is_package else module_pack.SOURCELESS
            packed.append((name, kind, str(path), code))
    (tmp_path / "ready_birds.modules").write_bytes(module_pack.encode(packed))
    sys.path.append(str(library))
    yield tmp_path
    sys.path.remove(str(library))
    for name in SOURCES:
        sys.modules.pop(name, None)


def test_a_packed_module_has_its_file_its_package_and_its_content(place: Path) -> None:
    found = offer("birds", place=str(place / "ready_{}.modules"))
    try:
        (place / "library/birds_of_a_test/song.pyc").unlink()  # so it comes from the pack
        birds = importlib.import_module("birds_of_a_test")
        egg = importlib.import_module("birds_of_a_test.egg")  # in no pack, found as ever
    finally:
        withdraw(found)
    assert birds.SIZE == 2
    assert egg.WEIGHT_G == 50
    assert birds.__file__ == str(place / "library/birds_of_a_test/__init__.pyc")
    assert birds.__path__ == [str(place / "library/birds_of_a_test")]
    song = sys.modules["birds_of_a_test.song"]
    assert song.__package__ == "birds_of_a_test"
    assert song.__spec__ is not None
    assert song.__spec__.origin == song.__file__


def test_a_module_can_be_loaded_again_from_its_file(place: Path) -> None:
    found = offer("birds", place=str(place / "ready_{}.modules"))
    birds = importlib.import_module("birds_of_a_test")
    withdraw(found)
    assert found not in sys.meta_path
    del birds.SIZE
    assert importlib.reload(birds).SIZE == 2


def test_without_a_pack_nothing_is_changed(tmp_path: Path) -> None:
    before = list(sys.meta_path)
    assert offer("nobody", place=str(tmp_path / "ready_{}.modules")) is None
    withdraw(None)
    assert sys.meta_path == before


def test_what_is_imported_lazily_exists() -> None:
    for name in LAZY:
        assert importlib.util.find_spec(name) is not None
