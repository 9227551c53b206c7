# SPDX-License-Identifier: Apache-2.0
"""The axioms of the supervision tree, each under several schedules."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import pairwise
from random import Random

import pytest

from metropolis.host.sim.clock import SimClock
from metropolis.sim import simulate
from metropolis.supervision import (
    Context,
    LeveledEntry,
    LogTree,
    ReadOptions,
    RestartRequestedError,
    Runnable,
    RunnableStatus,
    Severity,
    State,
    Supervisor,
)

SEEDS = range(10)


class Recorder:
    """Wraps runnables to note when they start and how they end."""

    def __init__(self) -> None:
        self.events: list[tuple[float, str, str]] = []

    def __call__(self, runnable: Runnable) -> Runnable:
        async def recorded(ctx: Context) -> None:
            self.note(ctx.dn, "start")
            try:
                await runnable(ctx)
            except asyncio.CancelledError:
                self.note(ctx.dn, "cancelled")
                raise
            except BaseException:
                self.note(ctx.dn, "failed")
                raise
            self.note(ctx.dn, "returned")

        return recorded

    def note(self, dn: str, what: str) -> None:
        self.events.append((asyncio.get_running_loop().time(), dn, what))

    def times(self, dn: str, what: str = "start") -> list[float]:
        return [at for at, who, event in self.events if (who, event) == (dn, what)]


def supervise(
    root: Runnable,
    *,
    for_s: float = 60.0,
    seed: int = 0,
    during: Callable[[Supervisor], Awaitable[None]] | None = None,
) -> tuple[Mapping[str, RunnableStatus], list[LeveledEntry]]:
    """Run a tree in virtual time; return its last states before shutdown, and its log."""

    async def scenario() -> tuple[Mapping[str, RunnableStatus], list[LeveledEntry]]:
        clock = SimClock()
        log_tree = LogTree(clock=clock)
        tree = Supervisor(root, log_tree=log_tree, clock=clock, rng=Random(seed))
        states: Mapping[str, RunnableStatus] = {}

        async def observe() -> None:
            nonlocal states
            if during is not None:
                await during(tree)
            await asyncio.sleep(for_s - asyncio.get_running_loop().time())
            states = tree.states()
            running.cancel()

        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(tree.run())
            tasks.create_task(observe())
        log = log_tree.read("", ReadOptions(with_children=True, backlog=None, only_leveled=True))
        return states, [e for e in log.backlog if isinstance(e, LeveledEntry)]

    return simulate(scenario, seed=seed)


async def steady(ctx: Context) -> None:
    ctx.healthy()
    await ctx.wait_cancelled()


def failing(after_s: float = 1.0) -> Runnable:
    async def runnable(ctx: Context) -> None:
        ctx.healthy()
        await asyncio.sleep(after_s)
        raise OSError("no carrier")

    return runnable


def parent_of(*groups: Mapping[str, Runnable]) -> Runnable:
    async def runnable(ctx: Context) -> None:
        for group in groups:
            ctx.run_group(group)
        ctx.healthy()
        await ctx.wait_cancelled()

    return runnable


@pytest.mark.parametrize("seed", SEEDS)
def test_children_are_named_by_their_place_and_logged_there(seed: int) -> None:
    async def logging(ctx: Context) -> None:
        ctx.log.info("%s => %s", "DISCOVERING", "REQUESTING")
        await steady(ctx)

    root = parent_of({"network": parent_of({"dhcp": logging})})
    states, log = supervise(root, seed=seed)
    assert list(states) == ["root", "root.network", "root.network.dhcp"]
    assert {status.state for status in states.values()} == {State.HEALTHY}
    assert [(e.dn, e.lines, e.severity.letter, e.file) for e in log] == [
        ("root.network.dhcp", ("DISCOVERING => REQUESTING",), "I", "test_tree.py")
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_failure_restarts_its_group_and_nobody_else(seed: int) -> None:
    record = Recorder()
    root = record(
        parent_of({"flaky": record(failing(10)), "mate": record(steady)}, {"other": record(steady)})
    )
    supervise(root, seed=seed, for_s=55)
    assert len(record.times("root")) == len(record.times("root.other")) == 1
    assert len(record.times("root.flaky")) == len(record.times("root.mate")) > 3
    assert record.times("root.mate", "cancelled")[:-1] == record.times("root.flaky", "failed")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cancelled_sibling_restarts_at_once(seed: int) -> None:
    record = Recorder()
    supervise(parent_of({"flaky": failing(10), "mate": record(steady)}), seed=seed, for_s=10.001)
    assert record.times("root.mate") == [0.0, 10.0]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_deep_failure_restarts_only_the_deepest(seed: int) -> None:
    record = Recorder()
    runnable, dn = record(failing(5)), "root"
    for name in "edcba":
        runnable = record(parent_of({name: runnable}))
    supervise(runnable, seed=seed, for_s=30)
    for name in "abcd":
        dn = f"{dn}.{name}"
        assert len(record.times(dn)) == 1
    assert len(record.times(f"{dn}.e")) > 2


@pytest.mark.parametrize("seed", SEEDS)
def test_a_failed_parent_waits_until_its_last_descendant_has_ended(seed: int) -> None:
    record = Recorder()

    async def slow_to_stop(ctx: Context) -> None:
        try:
            await steady(ctx)
        finally:
            await asyncio.sleep(3)

    async def parent(ctx: Context) -> None:
        ctx.run("child", parent_of({"grandchild": record(slow_to_stop)}))
        ctx.healthy()
        await asyncio.sleep(10)
        raise OSError("the disk fell out")

    supervise(parent_of({"parent": record(parent)}), seed=seed, for_s=15)
    assert record.times("root.parent", "failed") == [10.0]
    assert record.times("root.parent.child.grandchild", "cancelled")[:1] == [13.0]
    first, second = record.times("root.parent")
    assert 13.25 <= second <= 13.75
    assert record.times("root.parent.child.grandchild") == [first, second]


@pytest.mark.parametrize("seed", SEEDS)
def test_parent_and_child_may_fail_at_the_same_time(seed: int) -> None:
    record = Recorder()

    async def parent(ctx: Context) -> None:
        ctx.run_group({"a": record(failing(5)), "b": record(failing(5)), "c": record(steady)})
        ctx.healthy()
        await asyncio.sleep(5)
        raise OSError("me too")

    supervise(parent_of({"parent": record(parent)}), seed=seed, for_s=8)
    starts = record.times("root.parent")
    assert len(starts) == 2
    for name in "abc":  # new nodes of the new parent: none is left of the old
        assert record.times(f"root.parent.{name}") == starts


@pytest.mark.parametrize("seed", SEEDS)
def test_back_off_grows_from_half_a_second_to_a_minute_and_being_healthy_shortly_is_no_merit(
    seed: int,
) -> None:
    record = Recorder()
    supervise(parent_of({"it": record(failing(1))}), seed=seed, for_s=1500)
    waits = [
        start - death
        for death, start in zip(
            record.times("root.it", "failed"), record.times("root.it")[1:], strict=False
        )
    ]
    interval_s = 0.5
    for wait_s in waits:
        assert interval_s * 0.5 <= wait_s <= min(interval_s * 1.5, 60)
        interval_s = min(interval_s * 1.5, 60)
    assert len(waits) > 20
    assert len({round(wait_s, 6) for wait_s in waits}) > 10, "waits are drawn, not computed"


def test_ten_seconds_of_health_forgive_earlier_failures() -> None:
    lives = iter([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 9.9, 10.0, 1.0])
    record = Recorder()

    async def recovering(ctx: Context) -> None:
        ctx.healthy()
        await asyncio.sleep(next(lives, 10**6))
        raise OSError("no carrier")

    supervise(parent_of({"it": record(recovering)}), for_s=300)
    deaths, starts = record.times("root.it", "failed"), record.times("root.it")
    assert starts[7] - deaths[6] > 0.75, "9.9 s do not count"
    assert 0.25 <= starts[8] - deaths[7] <= 0.75, "10 s do"


def test_ten_seconds_without_being_healthy_forgive_nothing() -> None:
    record = Recorder()

    async def never_healthy(ctx: Context) -> None:
        await asyncio.sleep(20)
        raise OSError(f"{ctx.dn} never came up")

    supervise(parent_of({"it": record(never_healthy)}), for_s=600)
    waits = [b - a - 20 for a, b in pairwise(record.times("root.it"))]
    assert waits[-1] > 10


def test_back_off_ends_when_the_parent_dies_and_a_new_parent_forgives() -> None:
    record = Recorder()

    async def parent(ctx: Context) -> None:
        ctx.run("child", record(failing(0.1)))
        ctx.healthy()
        await asyncio.sleep(100)  # the child's back-off is near its cap by now
        raise OSError("gone")

    supervise(parent_of({"parent": record(parent)}), for_s=102)
    again = record.times("root.parent")[1]
    first, second = [at for at in record.times("root.parent.child") if at >= again][:2]
    assert first == again
    assert second - first - 0.1 <= 0.75


@pytest.mark.parametrize("seed", SEEDS)
def test_done_is_reached_on_return_and_stays(seed: int) -> None:
    record = Recorder()
    seen: list[State] = []

    async def task(ctx: Context) -> None:
        ctx.healthy()
        ctx.done()
        await asyncio.sleep(5)

    async def during(tree: Supervisor) -> None:
        await asyncio.sleep(4)
        seen.append(tree.states()["root.task"].state)

    root = parent_of({"task": record(task)}, {"flaky": failing(20)})
    states, _ = supervise(root, seed=seed, during=during, for_s=100)
    assert seen == [State.HEALTHY]
    assert states["root.task"].state is State.DONE
    assert len(record.times("root.task")) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_done_sibling_starts_again_with_its_group(seed: int) -> None:
    record = Recorder()

    async def task(ctx: Context) -> None:
        ctx.run("helper", record(steady))
        ctx.healthy()
        ctx.done()

    supervise(parent_of({"task": record(task), "flaky": failing(20)}), seed=seed, for_s=20.1)
    assert record.times("root.task") == [0.0, 20.0]
    assert record.times("root.task.helper") == [0.0, 20.0], "children of DONE runnables run on"


@pytest.mark.parametrize("seed", SEEDS)
def test_the_root_is_restarted_like_any_other(seed: int) -> None:
    record = Recorder()

    async def root(ctx: Context) -> None:
        ctx.run("child", record(steady))
        ctx.healthy()
        await asyncio.sleep(5)
        raise OSError("root failed")

    supervise(record(root), seed=seed, for_s=8)
    assert len(record.times("root")) == len(record.times("root.child")) == 2


@pytest.mark.parametrize(
    ("error", "summary"),
    [
        (OSError("no carrier"), "OSError: no carrier"),
        (AssertionError("impossible"), "AssertionError: impossible"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyError("name"), "KeyError: 'name'"),
        (asyncio.CancelledError(), "CancelledError"),
        (
            ExceptionGroup("unhandled", [ValueError("one"), ExceptionGroup("x", [OSError("two")])]),
            "ValueError: one; OSError: two",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_exception_is_a_failure_told_in_the_log(error: BaseException, summary: str) -> None:
    async def raises(ctx: Context) -> None:
        ctx.healthy()
        raise error

    states, log = supervise(parent_of({"it": raises}), for_s=0.2)
    assert states["root.it"].state is State.DEAD
    assert states["root.it"].last_error == summary
    (entry,) = log
    assert (entry.dn, entry.severity) == ("root.it", Severity.FATAL)
    assert entry.lines[0] == f"runnable returned error: {summary}"
    assert any("in raises" in line for line in entry.lines)
    assert entry.file == "test_tree.py"


def test_the_cause_of_a_failure_is_told_with_its_traceback() -> None:
    def inner() -> None:
        raise OSError("disk on fire")

    async def raises(_: Context) -> None:
        try:
            inner()
        except OSError as cause:
            raise ValueError("cannot start") from cause

    _, log = supervise(parent_of({"it": raises}), for_s=0.2)
    assert log[0].lines[0] == "runnable returned error: ValueError: cannot start: disk on fire"
    assert any("in inner" in line for line in log[0].lines)


def test_returning_without_being_done_is_a_failure() -> None:
    async def returns(ctx: Context) -> None:
        ctx.healthy()

    _, log = supervise(parent_of({"it": returns}), for_s=0.2)
    assert log[0].lines[0].endswith("returned nil when NODE_STATE_HEALTHY")


@pytest.mark.parametrize("ending", ["returns", "raises", "done"])
def test_a_cancelled_runnable_that_ends_in_its_own_way_is_judged_by_that(ending: str) -> None:
    record = Recorder()

    async def stubborn(ctx: Context) -> None:
        ctx.healthy()
        if ending == "done":
            ctx.done()
        with suppress(asyncio.CancelledError):
            await ctx.wait_cancelled()
        if ending == "raises":
            raise OSError("could not clean up")

    supervise(parent_of({"flaky": failing(10), "it": record(stubborn)}), for_s=10.9)
    delay_s = record.times("root.it")[1] - 10
    if ending == "done":
        assert delay_s == 0
    else:
        assert 0.25 <= delay_s <= 0.75


@pytest.mark.parametrize("seed", SEEDS)
def test_a_healthy_runnable_may_ask_to_start_anew_with_all_below_it(seed: int) -> None:
    recorder = Recorder()

    async def changing(ctx: Context) -> None:
        ctx.run("below", recorder(steady))
        ctx.healthy()
        await asyncio.sleep(20)
        raise RestartRequestedError("the input changed")

    states, log = supervise(
        parent_of({"changing": recorder(changing), "beside": recorder(steady)}),
        for_s=50,
        seed=seed,
    )
    assert recorder.times("root.changing") == [0, 20, 40]
    assert recorder.times("root.changing.below") == [0, 20, 40]
    assert recorder.times("root.beside") == [0]
    assert states["root.changing"].last_error is None
    assert [entry.severity for entry in log if entry.dn == "root.changing"] == [Severity.INFO] * 2


def test_asking_to_start_anew_before_being_healthy_is_a_failure() -> None:
    async def restless(_ctx: Context) -> None:
        raise RestartRequestedError("again")

    states, log = supervise(parent_of({"restless": restless}), for_s=10)
    assert states["root.restless"].last_error == "again"
    assert states["root.restless"].restarts < 10
    assert {entry.severity for entry in log if entry.dn == "root.restless"} == {Severity.FATAL}


def test_keyboard_interrupt_ends_the_program() -> None:
    async def interrupted(_: Context) -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        clock = SimClock()
        log_tree = LogTree(clock=clock)
        root = parent_of({"it": interrupted})
        await Supervisor(root, log_tree=log_tree, clock=clock, rng=Random(1)).run()

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
