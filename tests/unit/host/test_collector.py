# SPDX-License-Identifier: Apache-2.0
"""The garbage collector stops a process rarely, and seldom for long."""

import asyncio
import gc
import subprocess
import sys
import weakref

import pytest

from metropolis.host.linux.collector import (
    BLOCKS_MAX,
    FIRST_S,
    LONGEST_S,
    WORTHWHILE_OBJECTS,
    collect_now_and_then,
    next_rest_s,
)
from metropolis.sim import simulate

SCRIPT = """
import gc
from metropolis.host.linux.collector import calm_collector

calm_collector()
full = []
gc.callbacks.append(lambda phase, facts: full.append(phase) if facts["generation"] else None)
kept = [[number] for number in range(1_000_000)]
print(len(full))
"""


def test_new_objects_in_large_numbers_cause_no_full_collection() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert done.stdout == "0\n"


@pytest.mark.parametrize(
    ("rest_s", "found", "then_s"),
    [
        (FIRST_S, 0, 2 * FIRST_S),
        (FIRST_S, WORTHWHILE_OBJECTS, FIRST_S),
        (8 * FIRST_S, WORTHWHILE_OBJECTS, 4 * FIRST_S),
        (LONGEST_S, 0, LONGEST_S),
    ],
    ids=["nothing", "much", "much, later", "a day, always"],
)
def test_the_less_a_collection_finds_the_later_is_the_next(
    rest_s: float, found: int, then_s: float
) -> None:
    assert next_rest_s(rest_s, found=found) == then_s


class _Cycle:
    """Something that only the collector frees."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.parametrize("is_large", [False, True], ids=["small", "large"])
def test_a_process_that_holds_much_puts_it_off(is_large: bool) -> None:
    gone = weakref.ref(_Cycle())
    held = [bytes(100) for _ in range(BLOCKS_MAX)] if is_large else []

    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            collecting = group.create_task(collect_now_and_then())
            await asyncio.sleep(FIRST_S - 1)
            assert gone() is not None
            await asyncio.sleep(2)
            assert (gone() is None) is not is_large
            held.clear()
            await asyncio.sleep(FIRST_S)
            assert gone() is None
            collecting.cancel()

    gc.disable()
    try:
        simulate(scenario, seed=1)
    finally:
        gc.enable()
