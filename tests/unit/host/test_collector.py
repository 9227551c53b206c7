# SPDX-License-Identifier: Apache-2.0
"""The garbage collector stops a process rarely, and seldom for long."""

import subprocess
import sys

import pytest

from metropolis.host.linux.collector import FIRST_S, LONGEST_S, WORTHWHILE_OBJECTS, next_rest_s

SCRIPT = """
import gc
from metropolis.host.linux.collector import calm_collector

calm_collector()
full = []
gc.callbacks.append(lambda phase, facts: full.append(phase) if facts["generation"] == 2 else None)
kept = [[number] for number in range(1_000_000)]
print(len(full))
"""


def test_new_objects_in_large_numbers_cause_no_full_collection() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert done.stdout == "0\n"


@pytest.mark.parametrize(
    ("rest_s", "found", "pause_s", "then_s"),
    [
        (FIRST_S, 0, 0.01, 2 * FIRST_S),
        (FIRST_S, WORTHWHILE_OBJECTS, 0.01, FIRST_S),
        (8 * FIRST_S, WORTHWHILE_OBJECTS, 0.01, 4 * FIRST_S),
        (FIRST_S, WORTHWHILE_OBJECTS, 2.0, 4000.0),
        (LONGEST_S, 0, 0.01, LONGEST_S),
        (LONGEST_S, 0, 1000.0, LONGEST_S),
    ],
    ids=["nothing", "much", "much, later", "a long pause", "a day at most", "a day, always"],
)
def test_the_less_a_collection_finds_and_the_longer_it_takes_the_later_is_the_next(
    rest_s: float, found: int, pause_s: float, then_s: float
) -> None:
    assert next_rest_s(rest_s, found=found, pause_s=pause_s) == then_s
