# SPDX-License-Identifier: Apache-2.0
"""Every line of the threat model names a test, and there is such a test."""

import re

import pytest

from golden.docs.pages import HANDBOOK, ROOT, read

_ROW = re.compile(r"^\| (?!attack |---)(?P<attack>[^|]+) \|.*\| (?P<tests>[^|]*)\|$", re.MULTILINE)
_TEST = re.compile(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")
ROWS = {each["attack"]: each["tests"] for each in _ROW.finditer(read(HANDBOOK / "threat-model.md"))}
# What nothing of ours stops has no test: it stands there so that nobody relies on it.
UNDEFENDED = {"read keys out of a running machine's memory"}


def test_the_page_is_read() -> None:
    assert len(ROWS) > 25


@pytest.mark.parametrize("attack", ROWS)
def test_a_line_names_a_test_that_there_is(attack: str) -> None:
    found = _TEST.findall(ROWS[attack])
    assert bool(found) != (attack in UNDEFENDED)
    for path, name in found:
        assert re.search(rf"^def {name}\(", read(ROOT / path), re.MULTILINE), f"{path}::{name}"
