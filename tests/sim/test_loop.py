# SPDX-License-Identifier: Apache-2.0
"""The loop of the simulation: virtual time, adversarial order, verdicts that name the culprit."""

import asyncio
import itertools
import threading
from collections.abc import Awaitable

import pytest

from metropolis.sim import Trace, note, simulate
from metropolis.sim.loop import Deadlock, LeakedTasks, Livelock, Overtime, Unhandled, running_loop


def test_a_day_passes_at_once() -> None:
    async def scenario() -> float:
        await asyncio.sleep(86_000)
        return asyncio.get_running_loop().time()

    assert simulate(scenario, seed=1) == 86_000


def test_timers_fire_in_the_order_of_their_times_whatever_the_order_of_their_making() -> None:
    async def scenario() -> list[float]:
        fired: list[float] = []

        async def sleeper(delay_s: float) -> None:
            await asyncio.sleep(delay_s)
            fired.append(delay_s)

        async with asyncio.TaskGroup() as tasks:
            for delay_s in (0.3, 0.1, 5.0, 0.2):
                tasks.create_task(sleeper(delay_s))
        return fired

    assert all(simulate(scenario, seed=seed) == [0.1, 0.2, 0.3, 5.0] for seed in range(10))


def test_timers_of_one_instant_fire_in_an_order_that_the_seed_chooses() -> None:
    async def scenario() -> tuple[int, ...]:
        fired: list[int] = []

        async def sleeper(number: int) -> None:
            await asyncio.sleep(1.0)
            fired.append(number)

        async with asyncio.TaskGroup() as tasks:
            for number in range(5):
                tasks.create_task(sleeper(number))
        return tuple(fired)

    orders = {simulate(scenario, seed=seed) for seed in range(10)}
    assert len(orders) > 1
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)


def test_a_timeout_ends_a_wait_at_its_virtual_time() -> None:
    async def scenario() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(7.5):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert simulate(scenario, seed=1) == 7.5


def test_cancelled_timers_do_not_pile_up() -> None:
    async def scenario() -> int:
        loop = running_loop()
        assert loop is not None
        for _ in range(10_000):
            loop.call_later(3600, print).cancel()
            await asyncio.sleep(0)
        return len(loop._scheduled)

    assert simulate(scenario, seed=1) < 1_000


def test_a_deadlock_names_who_waits_and_where() -> None:
    async def waits_for_a_letter() -> None:
        await asyncio.Event().wait()

    async def scenario() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(waits_for_a_letter(), name="postman")

    with pytest.raises(Deadlock, match=r"postman: waits in .*waits_for_a_letter") as caught:
        simulate(scenario, seed=77)
    assert "seed 77" in str(caught.value)
    assert "test_loop.py" in str(caught.value)


def test_a_livelock_is_a_verdict_and_not_a_hang() -> None:
    async def scenario() -> None:
        for _ in itertools.count():
            await asyncio.sleep(0)

    with pytest.raises(Livelock, match="scenario: waits in"):
        simulate(scenario, seed=1)


def test_a_scenario_that_only_ticks_runs_into_overtime() -> None:
    async def scenario() -> None:
        for _ in itertools.count():
            await asyncio.sleep(1)

    with pytest.raises(Overtime, match=r"may last 100.0 s at t=101"):
        simulate(scenario, seed=1, limit_s=100.0)


def test_a_task_that_outlives_the_scenario_is_named() -> None:
    started: list[asyncio.Task[None]] = []

    async def scenario() -> None:
        started.append(asyncio.get_running_loop().create_task(asyncio.sleep(9), name="orphan"))
        await asyncio.sleep(0)

    with pytest.raises(LeakedTasks, match="orphan"):
        simulate(scenario, seed=1)
    assert started[0].cancelled()


def test_threads_and_real_io_are_refused_by_name() -> None:
    async def threads() -> None:
        await asyncio.to_thread(print)

    async def sockets() -> None:
        await asyncio.open_connection("127.0.0.1", 1)

    for scenario in (threads, sockets):
        with pytest.raises(RuntimeError, match="inside a simulation"):
            simulate(scenario, seed=1)


def test_a_callback_may_be_called_soon_from_anywhere() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        rung = asyncio.Event()
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(rung.set,))
        thread.start()
        thread.join()
        await rung.wait()

    simulate(scenario, seed=1)


def test_a_callback_that_fails_fails_the_run() -> None:
    def fail() -> None:
        raise ValueError("seven")

    async def scenario() -> None:
        asyncio.get_running_loop().call_later(1, fail)
        await asyncio.sleep(2)

    with pytest.raises(Unhandled, match="seven"):
        simulate(scenario, seed=1)


def test_a_check_runs_after_every_batch_and_stops_the_run_at_the_step_that_broke_it() -> None:
    async def scenario() -> None:
        loop = running_loop()
        assert loop is not None

        def check() -> None:
            assert loop is not None
            assert loop.time() < 3, f"broken at {loop.time()}"

        loop.after_batch.append(check)
        for _ in itertools.count():
            await asyncio.sleep(1)

    with pytest.raises(AssertionError, match="broken at 3"):
        simulate(scenario, seed=1)


def test_the_error_of_a_scenario_comes_through_unchanged() -> None:
    async def scenario() -> Awaitable[None]:
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        simulate(scenario, seed=1)


def test_cleanup_runs_before_simulate_returns_also_after_a_deadlock() -> None:
    cleaned: list[str] = []

    async def scenario() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(3)
            cleaned.append("yes")

    with pytest.raises(Deadlock):
        simulate(scenario, seed=1)
    assert cleaned == ["yes"]


def test_notes_are_part_of_the_trace() -> None:
    def digest(text: str) -> str:
        async def scenario() -> None:
            note(text)

        trace = Trace()
        simulate(scenario, seed=1, trace=trace)
        assert list(trace.notes) == [(0.0, text)]
        return trace.hexdigest()

    assert digest("left") == digest("left")
    assert digest("left") != digest("right")


def test_a_note_outside_of_a_simulation_is_harmless() -> None:
    note("nobody listens")
