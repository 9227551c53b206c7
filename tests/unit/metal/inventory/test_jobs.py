# SPDX-License-Identifier: Apache-2.0
"""Jobs that are done again and again, in virtual time."""

import asyncio

import pytest

from metropolis.base.errors import UnavailableError
from metropolis.host.sim.clock import SimClock
from metropolis.host.sim.entropy import SimEntropy
from metropolis.metal.jobs import every
from metropolis.metal.model.image import IMAGES, ImageCreateRequest
from metropolis.metal.services.images import create_image
from metropolis.metal.services.orphan_images import run_orphan_images
from metropolis.metal.settings import Settings
from metropolis.metal.site import Site
from metropolis.metal.store import Transaction
from metropolis.sim import simulate
from unit.metal.kit import memory_store

DAY_S = 24 * 3600


async def _two_images(tx: Transaction) -> None:
    for image_id in ("alpine-3.19.1", "alpine-3.20.1"):
        await create_image(tx, ImageCreateRequest(id=image_id, url="http://x.example/"))


def test_an_old_image_is_forgotten_within_an_hour_after_it_expired() -> None:
    async def scenario() -> list[int]:
        clock = SimClock()
        counts: list[int] = []
        async with memory_store(clock) as store:
            site = Site(store=store, clock=clock, entropy=SimEntropy(1), settings=Settings())
            await store.write(_two_images)
            async with asyncio.TaskGroup() as group:
                job = group.create_task(run_orphan_images(site))
                for seconds in (90 * DAY_S, 3600):
                    await asyncio.sleep(seconds)
                    counts.append(await store.read(lambda reader: reader.count(IMAGES)))
                job.cancel()
        return counts

    assert simulate(scenario, seed=1, limit_s=100 * DAY_S) == [2, 1]


def test_a_job_that_could_not_be_done_is_done_the_next_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    times: list[float] = []

    async def job() -> None:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            raise UnavailableError("the database is away")

    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(every(60, job))
            await asyncio.sleep(150)
            task.cancel()

    simulate(scenario, seed=1)
    assert times == [60, 120]
    assert "tried again in 60 s: the database is away" in caplog.text


def test_a_job_with_a_mistake_of_ours_is_not_hidden() -> None:
    async def job() -> None:
        raise AssertionError("ours")

    with pytest.raises(AssertionError, match="ours"):
        simulate(lambda: every(60, job), seed=1)
