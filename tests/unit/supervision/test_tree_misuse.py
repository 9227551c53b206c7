# SPDX-License-Identifier: Apache-2.0
"""What a runnable may not do to the tree, and that doing it harms nobody else."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from random import Random

import pytest

from metropolis.host.sim.clock import SimClock
from metropolis.sim import simulate
from metropolis.supervision import (
    Context,
    LeveledEntry,
    LogTree,
    ReadOptions,
    Runnable,
    RunnableStatus,
    State,
    Supervisor,
    TreeMisuseError,
)


def supervise(
    root: Runnable,
    *,
    for_s: float = 60.0,
    during: Callable[[Supervisor], Awaitable[None]] | None = None,
) -> tuple[Mapping[str, RunnableStatus], list[LeveledEntry]]:
    """Run a tree in virtual time; return its last states before shutdown, and its log."""

    async def scenario() -> tuple[Mapping[str, RunnableStatus], list[LeveledEntry]]:
        clock = SimClock()
        log_tree = LogTree(clock=clock)
        tree = Supervisor(root, log_tree=log_tree, clock=clock, rng=Random(0))
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(tree.run())
            if during is not None:
                await during(tree)
            await asyncio.sleep(for_s - asyncio.get_running_loop().time())
            states = tree.states()
            running.cancel()
        log = log_tree.read("", ReadOptions(with_children=True, backlog=None, only_leveled=True))
        return states, [e for e in log.backlog if isinstance(e, LeveledEntry)]

    return simulate(scenario, seed=0)


async def steady(ctx: Context) -> None:
    ctx.healthy()
    await ctx.wait_cancelled()


def parent_of(*groups: Mapping[str, Runnable]) -> Runnable:
    async def runnable(ctx: Context) -> None:
        for group in groups:
            ctx.run_group(group)
        await steady(ctx)

    return runnable


@pytest.mark.parametrize("name", ["a", "eth0", "_", "a" * 64, "9"])
def test_names_that_are_allowed(name: str) -> None:
    states, _ = supervise(parent_of({name: steady}), for_s=1)
    assert f"root.{name}" in states


@pytest.mark.parametrize(
    "name", ["", "a.b", "Xa", "BAD", "console-/dev/tty0", "a" * 65, "a\n", " a", "ä", "٣"]
)
def test_names_that_are_not(name: str) -> None:
    states, log = supervise(parent_of({name: steady}), for_s=0.2)
    assert list(states) == ["root"]
    assert "names are 1 to 64 of a-z, 0-9, _" in log[0].lines[0]


async def _late_child(ctx: Context) -> None:
    ctx.healthy()
    ctx.run("child", steady)


async def _healthy_twice(ctx: Context) -> None:
    ctx.healthy()
    ctx.healthy()


async def _done_before_healthy(ctx: Context) -> None:
    ctx.done()


async def _done_twice(ctx: Context) -> None:
    ctx.healthy()
    ctx.done()
    ctx.done()


async def _same_name_twice(ctx: Context) -> None:
    ctx.run("a", steady)
    ctx.run("a", steady)


async def _empty_group(ctx: Context) -> None:
    ctx.run_group({})


async def _child_named_like_a_logger(ctx: Context) -> None:
    ctx.sub_logger("a")
    ctx.run("a", steady)


async def _logger_named_like_a_child(ctx: Context) -> None:
    ctx.run("a", steady)
    ctx.sub_logger("a")


async def _bad_logger_name(ctx: Context) -> None:
    ctx.raw_logger("a.b")


@pytest.mark.parametrize(
    ("misuse", "reason"),
    [
        (_late_child, "cannot run new runnable on non-NEW node root.it"),
        (_healthy_twice, "signalled HEALTHY when NODE_STATE_HEALTHY"),
        (_done_before_healthy, "signalled DONE when NODE_STATE_NEW"),
        (_done_twice, "signalled DONE when NODE_STATE_HEALTHY"),
        (_same_name_twice, "the name root.it.a is taken"),
        (_empty_group, "a group without runnables"),
        (_child_named_like_a_logger, "the name root.it.a is taken"),
        (_logger_named_like_a_child, "root.it.a is a runnable"),
        (_bad_logger_name, "names are 1 to 64"),
    ],
)
def test_misuse_ends_the_runnable_and_nothing_else(misuse: Runnable, reason: str) -> None:
    states, log = supervise(parent_of({"it": misuse}, {"other": steady}), for_s=0.2)
    assert reason in log[0].lines[0]
    assert states["root.it"].state is State.DEAD
    assert states["root.other"].restarts == 0


def test_a_context_is_useless_after_its_runnable_ended() -> None:
    kept: list[Context] = []

    async def leaks(ctx: Context) -> None:
        kept.append(ctx)
        raise OSError("gone")

    async def during(_: Supervisor) -> None:
        await asyncio.sleep(30)
        with pytest.raises(TreeMisuseError):
            kept[0].run("child", steady)
        with pytest.raises(TreeMisuseError):
            kept[0].healthy()
        with pytest.raises(TreeMisuseError):
            kept[0].sub_logger("late")
        kept[0].log.info("logging is harmless")

    states, _ = supervise(parent_of({"it": leaks}), during=during)
    assert not [dn for dn in states if dn.startswith("root.it.")]


def test_a_runaway_spawner_that_fails_leaves_nothing_behind() -> None:
    running: dict[str, None] = {}
    ended: list[str] = []

    async def child(ctx: Context) -> None:
        running[ctx.dn] = None
        try:
            await steady(ctx)
        finally:
            del running[ctx.dn]
            ended.append(ctx.dn)

    async def runaway(ctx: Context) -> None:
        for number in range(1000):
            ctx.run(f"c{number}", child)
        await asyncio.sleep(0.01)
        raise OSError("too many")

    async def during(_: Supervisor) -> None:
        await asyncio.sleep(0.1)
        assert not running
        assert len(ended) == 1000

    supervise(parent_of({"it": runaway}), for_s=0.2, during=during)


def test_children_added_while_being_cancelled_do_not_start() -> None:
    started: list[str] = []
    errors: list[BaseException] = []

    async def late(ctx: Context) -> None:
        with suppress(asyncio.CancelledError):
            await ctx.wait_cancelled()
        try:
            ctx.run("child", child)
        except asyncio.CancelledError as error:
            errors.append(error)
            raise

    async def child(ctx: Context) -> None:
        started.append(ctx.dn)
        await steady(ctx)

    async def fails(_: Context) -> None:
        raise OSError("gone")

    states, _ = supervise(parent_of({"fails": fails, "late": late}), for_s=0.1)
    assert len(errors) == 1
    assert not started
    assert states["root.late"].restarts == 1, "it was CANCELED, so it started again at once"


def test_names_reserved_by_sub_loggers_are_free_in_the_next_incarnation() -> None:
    lives = iter(["logger", "child"])

    async def changes_its_mind(ctx: Context) -> None:
        if next(lives) == "logger":
            ctx.sub_logger("name").info("I am a logger")
            ctx.sub_logger("name")
            raise OSError("gone")
        ctx.run("name", steady)
        await steady(ctx)

    states, log = supervise(parent_of({"it": changes_its_mind}))
    assert states["root.it.name"].state is State.HEALTHY
    assert (log[0].dn, log[0].lines) == ("root.it.name", ("I am a logger",))
