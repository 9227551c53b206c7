# SPDX-License-Identifier: Apache-2.0
"""The table of scenarios names tests that exist, and has every one that we need."""

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
TEXT = (TESTS / "SCENARIOS.md").read_text(encoding="utf-8")
NUMBERS = [1, 2, 7, 8, 10, 11, 15, 16, 17, 18, 19, 20, 28, 29, 30, 32, 34, 37, 40, 41, 42, 44]


def test_every_named_test_exists() -> None:
    named = re.findall(r"\[(test_\w+)\]\(([^)]+)\)", TEXT)
    missing = [
        f"{path}::{name}"
        for name, path in named
        if not (TESTS / path).exists()
        or not re.search(
            rf"^def {name}\(", (TESTS / path).read_text(encoding="utf-8"), re.MULTILINE
        )
    ]
    assert len(named) > 40
    assert missing == []


def test_every_scenario_has_a_row_with_a_test() -> None:
    rows = re.findall(r"^\| (\d+) \|(.*)$", TEXT, re.MULTILINE)
    assert [int(number) for number, _ in rows] == NUMBERS
    for number, row in rows:
        assert "](" in row, number
