# SPDX-License-Identifier: Apache-2.0
"""A node whose clock is ten years off: it comes back, and its console says what is believed."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from e2e.vm.machines import BOOT_TIMEOUT_S, Trio
from metropolis.lab.qemu.arguments import CLOCK

pytestmark = pytest.mark.timeout(900)  # the first test waits for the image and the launch

VICTIM = 2
TEN_YEARS = timedelta(days=3652)


async def started(trio: Trio, line: str, *, clock: datetime) -> None:
    """Start the victim with a wrong clock; wait for a line, and for its heartbeat."""
    file: Path = trio.machine(VICTIM) / CLOCK
    file.write_text(clock.strftime("%Y-%m-%dT%H:%M:%S"))
    try:
        await trio.cluster.power(VICTIM, "off")
        console, moment = trio.console(VICTIM), time.time()
        await trio.cluster.power(VICTIM, "on")
        await console.wait_for(line)
        await trio.heartbeat_after(VICTIM, moment, timeout_s=BOOT_TIMEOUT_S)
    finally:
        file.unlink()


def test_a_clock_ten_years_behind_is_not_believed_and_the_node_comes_back(trio: Trio) -> None:
    clock = datetime.now(UTC) - TEN_YEARS
    line = r"The clock starts at 20\S+, by the (image's build time|time saved last): the"
    asyncio.run(started(trio, line, clock=clock))
    asyncio.run(trio.bring_up())


def test_a_clock_ten_years_ahead_is_believed_and_harms_nothing(trio: Trio) -> None:
    clock = datetime.now(UTC) + TEN_YEARS
    line = rf"The clock starts at {clock.year}-\S+, by the hardware clock"
    asyncio.run(started(trio, line, clock=clock))
    asyncio.run(trio.cluster.power(VICTIM, "cycle"))  # nothing of that is remembered
    asyncio.run(trio.bring_up())
