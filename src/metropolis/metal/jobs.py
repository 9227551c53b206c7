# SPDX-License-Identifier: Apache-2.0
"""Jobs that every replica runs now and then; what one has done the next finds done."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from metropolis.base.errors import MetropolisError, chain

LOG: Final = logging.getLogger("metropolis.metal.jobs")


async def every(period_s: float, job: Callable[[], Awaitable[object]]) -> None:
    """Run a job again and again, first after a period: a replica that was down heard of nobody."""
    while True:
        await asyncio.sleep(period_s)
        try:
            await job()
        except MetropolisError as error:
            LOG.warning("a job is tried again in %g s: %s", period_s, chain(error))
