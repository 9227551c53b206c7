# SPDX-License-Identifier: Apache-2.0
"""Watchable values: the newest value, never a queue."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from metropolis.sim import simulate
from metropolis.supervision import UnsetError, Value

SEEDS = range(10)


def simulated(scenario: Callable[[], Awaitable[None]], *, seed: int = 1) -> None:
    simulate(scenario, seed=seed)


def test_a_value_that_was_never_set_says_so() -> None:
    value = Value[int]()
    assert not value.is_set
    with pytest.raises(UnsetError):
        _ = value.current
    value.set(0)
    assert value.current == 0
    assert Value(None).is_set
    assert Value[int | None](None).current is None


@pytest.mark.parametrize("seed", SEEDS)
def test_a_watcher_gets_the_present_value_then_waits_for_the_next(seed: int) -> None:
    async def scenario() -> None:
        value = Value("first")
        watcher = value.watch()
        assert await watcher.receive() == "first"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(100):
                await watcher.receive()
        value.set("second")
        assert await watcher.receive() == "second"

    simulated(scenario, seed=seed)


def test_a_slow_watcher_sees_only_the_newest() -> None:
    async def scenario() -> None:
        value = Value[int]()
        watcher = value.watch()
        for number in range(1000):
            value.set(number)
        assert await watcher.receive() == 999
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await watcher.receive()

    simulated(scenario)


def test_the_same_value_again_is_news() -> None:
    async def scenario() -> None:
        value = Value(1)
        watcher = value.watch()
        await watcher.receive()
        value.set(1)
        assert await watcher.receive() == 1

    simulated(scenario)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_hundred_watchers_all_see_the_last_value(seed: int) -> None:
    async def scenario() -> None:
        value = Value[int]()
        last: list[int] = []

        async def watch() -> None:
            watcher, seen = value.watch(), -1
            while seen < 99:
                new = await watcher.receive()
                assert new > seen, "values never go back"
                seen = new
            last.append(seen)

        async def change() -> None:
            for number in range(100):
                value.set(number)
                if number % 7 == 0:
                    await asyncio.sleep(0.001)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(100):
                tasks.create_task(watch())
            tasks.create_task(change())
        assert last == [99] * 100

    simulated(scenario, seed=seed)


@pytest.mark.parametrize("seed", range(30))
def test_a_cancelled_receive_loses_nothing(seed: int) -> None:
    async def scenario() -> None:
        value = Value[int]()
        watcher = value.watch()
        got: list[int] = []

        async def receive() -> None:
            while not got or got[-1] < 9:
                try:
                    async with asyncio.timeout(0.1):
                        got.append(await watcher.receive())
                except TimeoutError:
                    continue

        async def change() -> None:
            for number in range(10):
                await asyncio.sleep(0.1)
                value.set(number)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(receive())
            tasks.create_task(change())
        assert got[-1] == 9

    simulated(scenario, seed=seed)


def test_waiting_for_a_condition_skips_what_does_not_meet_it() -> None:
    async def scenario() -> None:
        value = Value(0)

        async def change() -> None:
            for number in range(1, 10):
                await asyncio.sleep(1)
                value.set(number)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(change())
            assert await value.wait_for(lambda number: number >= 0) == 0
            assert await value.wait_for(lambda number: number > 3) == 4
            assert asyncio.get_running_loop().time() == 4

    simulated(scenario)


def test_two_callers_on_one_watcher_are_a_bug() -> None:
    async def scenario() -> None:
        watcher = Value[int]().watch()
        first = asyncio.get_running_loop().create_task(watcher.receive())
        await asyncio.sleep(0)
        with pytest.raises(AssertionError, match="two callers"):
            await watcher.receive()
        first.cancel()
        await asyncio.wait([first])

    simulated(scenario)


def test_watchers_that_gave_up_cost_nothing() -> None:
    async def scenario() -> None:
        value = Value[int]()
        for _ in range(50):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await value.watch().receive()
        assert not value._waiting

    simulated(scenario)
