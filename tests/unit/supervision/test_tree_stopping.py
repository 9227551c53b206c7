# SPDX-License-Identifier: Apache-2.0
"""Runnables that do not stop, shutdown, observation, and real event loops."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from random import Random

import pytest
import uvloop

from metropolis.host.sim.clock import SimClock
from metropolis.sim import simulate
from metropolis.supervision import (
    Context,
    LeveledEntry,
    LogTree,
    ReadOptions,
    Runnable,
    Severity,
    State,
    Supervisor,
)


def tree_of(
    root: Runnable, *, observer: "Observations | None" = None
) -> tuple[Supervisor, LogTree]:
    clock = SimClock()
    log_tree = LogTree(clock=clock)
    rng = Random(1)
    return Supervisor(root, log_tree=log_tree, clock=clock, rng=rng, observer=observer), log_tree


def complaints(log_tree: LogTree) -> list[LeveledEntry]:
    log = log_tree.read("supervisor", ReadOptions(backlog=None)).backlog
    return [entry for entry in log if isinstance(entry, LeveledEntry)]


async def steady(ctx: Context) -> None:
    ctx.healthy()
    await ctx.wait_cancelled()


def parent_of(group: Mapping[str, Runnable]) -> Runnable:
    async def runnable(ctx: Context) -> None:
        ctx.run_group(group)
        await steady(ctx)

    return runnable


async def fails_after_a_second(ctx: Context) -> None:
    ctx.healthy()
    await asyncio.sleep(1)
    raise OSError("no carrier")


async def deaf(ctx: Context) -> None:
    """Swallow the first cancellation, as broken libraries do."""
    ctx.healthy()
    with suppress(asyncio.CancelledError):
        await ctx.wait_cancelled()
    await asyncio.sleep(10**5)


def test_a_runnable_that_ignores_cancellation_is_named_with_what_it_awaits() -> None:
    async def scenario() -> None:
        tree, log_tree = tree_of(parent_of({"flaky": fails_after_a_second, "deaf": deaf}))
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(tree.run())
            await asyncio.sleep(1 + 4.9)
            assert not complaints(log_tree)
            assert tree.states()["root.deaf"].stuck_at is None
            await asyncio.sleep(5.1)
            (entry,) = complaints(log_tree)
            assert entry.severity is Severity.ERROR
            assert entry.lines[0].startswith("root.deaf still runs 5 s after it was cancelled")
            assert "deaf (supervision/test_tree_stopping.py:" in entry.lines[0]
            stuck_at = tree.states()["root.deaf"].stuck_at
            assert stuck_at is not None
            assert "sleep" in stuck_at
            assert tree.states()["root.deaf"].state is State.HEALTHY
            running.cancel()

    simulate(scenario, seed=1)


def test_a_swallowed_cancellation_does_not_last_for_ever() -> None:
    deaf_then, fails_then = iter([deaf]), iter([fails_after_a_second])

    async def deaf_once(ctx: Context) -> None:
        await next(deaf_then, steady)(ctx)

    async def fails_once(ctx: Context) -> None:
        await next(fails_then, steady)(ctx)

    async def scenario() -> None:
        tree, _ = tree_of(parent_of({"flaky": fails_once, "deaf": deaf_once}))
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(tree.run())
            await asyncio.sleep(40)
            assert tree.states()["root.deaf"].restarts == 1
            assert tree.states()["root.deaf"].stuck_at is None
            running.cancel()

    simulate(scenario, seed=1)


def test_shutdown_waits_for_every_runnable() -> None:
    ended: list[str] = []

    async def tidy(ctx: Context) -> None:
        ctx.healthy()
        try:
            await ctx.wait_cancelled()
        finally:
            await asyncio.sleep(4)
            ended.append(ctx.dn)

    async def scenario() -> float:
        tree, log_tree = tree_of(parent_of({"a": tidy, "b": tidy, "flaky": fails_after_a_second}))
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await tree.run()
        assert not complaints(log_tree)
        assert {s.state for s in tree.states().values()} == {State.CANCELED}
        return asyncio.get_running_loop().time()

    assert simulate(scenario, seed=1) == 4.5
    assert sorted(ended) == ["root.a", "root.b"]


def test_shutdown_ends_a_back_off_and_restarts_nothing() -> None:
    async def scenario() -> float:
        tree, _ = tree_of(parent_of({"flaky": fails_after_a_second, "mate": steady}))
        with suppress(TimeoutError):
            async with asyncio.timeout(1.001):
                await tree.run()
        assert tree.states()["root.flaky"].state is State.CANCELED
        assert tree.states()["root.flaky"].restarts == 0
        return asyncio.get_running_loop().time()

    assert simulate(scenario, seed=1) == 1.001


def test_shutdown_gives_up_on_the_deaf_and_names_them() -> None:
    async def scenario() -> None:
        tree, log_tree = tree_of(parent_of({"deaf": deaf, "good": steady}))
        left: list[asyncio.Task[None]] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await tree.run()
        assert asyncio.get_running_loop().time() == 21
        texts = [entry.lines[0] for entry in complaints(log_tree)]
        assert [text.split(";")[0] for text in texts] == [
            "root.deaf still runs 5 s after it was cancelled",
            "root.deaf still runs 20 s after it was cancelled",
        ]
        left = [task for task in asyncio.all_tasks() if task.get_name() == "root.deaf"]
        assert len(left) == 1
        left[0].cancel()
        await asyncio.wait(left)

    simulate(scenario, seed=1)


class Observations:
    def __init__(self, *, broken: bool = False) -> None:
        self.seen: list[tuple[str, State | None, State]] = []
        self._broken = broken

    def state_changed(self, dn: str, before: State | None, after: State) -> None:
        self.seen.append((dn, before, after))
        if self._broken:
            raise ValueError("cannot count")


async def _task(ctx: Context) -> None:
    ctx.healthy()
    ctx.done()


def test_an_observer_sees_every_change_in_order() -> None:
    observer = Observations()

    async def scenario() -> None:
        group = {"flaky": fails_after_a_second, "task": _task}
        tree, _ = tree_of(parent_of(group), observer=observer)
        with suppress(TimeoutError):
            async with asyncio.timeout(1.2):
                await tree.run()

    simulate(scenario, seed=1)
    of = {dn: [(b, a) for d, b, a in observer.seen if d == dn] for dn, _, _ in observer.seen}
    new, healthy, dead = State.NEW, State.HEALTHY, State.DEAD
    done, canceled = State.DONE, State.CANCELED
    assert of["root"] == [(None, new), (new, healthy), (healthy, canceled)]
    assert of["root.flaky"] == [(None, new), (new, healthy), (healthy, dead), (dead, canceled)]
    assert of["root.task"] == [
        (None, new), (new, healthy), (healthy, done),
        (done, new), (new, healthy), (healthy, done),
    ]  # fmt: skip


def test_a_broken_observer_does_not_break_the_tree() -> None:
    async def scenario() -> None:
        tree, log_tree = tree_of(parent_of({"a": steady}), observer=Observations(broken=True))
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await tree.run()
        assert tree.states()["root.a"].state is State.CANCELED
        assert "cannot count" in complaints(log_tree)[0].lines[0]

    simulate(scenario, seed=1)


def test_states_tell_why_and_until_when_a_runnable_waits() -> None:
    async def scenario() -> None:
        tree, _ = tree_of(parent_of({"flaky": fails_after_a_second}))
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(tree.run())
            await asyncio.sleep(1.1)
            status = tree.states()["root.flaky"]
            assert (status.state, status.since_s, status.restarts) == (State.DEAD, 1.0, 0)
            assert status.last_error == "OSError: no carrier"
            assert status.backoff_until_s is not None
            assert 1.25 <= status.backoff_until_s <= 1.75
            await asyncio.sleep(0.8)
            again = tree.states()["root.flaky"]
            assert (again.state, again.since_s) == (State.HEALTHY, status.backoff_until_s)
            assert (again.restarts, again.backoff_until_s) == (1, None)
            running.cancel()

    simulate(scenario, seed=1)


def test_no_secret_reaches_the_log_or_the_states_through_a_failure() -> None:
    async def leaks(_: Context) -> None:
        raise ValueError("bad ticket " + b"hunter2-hunter2".hex())

    async def scenario() -> None:
        tree, log_tree = tree_of(parent_of({"it": leaks}))
        log_tree.conceal(b"hunter2-hunter2")
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await tree.run()
        assert tree.states()["root.it"].last_error == "ValueError: bad ticket <redacted>"
        (entry,) = log_tree.read("root.it", ReadOptions(backlog=None)).backlog
        assert isinstance(entry, LeveledEntry)
        assert b"hunter2-hunter2".hex() not in "\n".join(entry.lines)

    simulate(scenario, seed=1)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_tree_runs_on_real_event_loops(new_loop: object) -> None:
    starts: list[str] = []
    restarted = asyncio.Event()

    async def mate(ctx: Context) -> None:
        starts.append(ctx.dn)
        if len(starts) == 2:
            restarted.set()
        await steady(ctx)

    async def fails(ctx: Context) -> None:
        ctx.healthy()
        raise OSError("no carrier")

    async def main() -> None:
        tree, _ = tree_of(parent_of({"mate": mate, "fails": fails}))
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(tree.run())
            await restarted.wait()
            running.cancel()

    assert callable(new_loop)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    assert starts[:2] == ["root.mate"] * 2
