# SPDX-License-Identifier: Apache-2.0
"""External programs as runnables: health, output, exits, stopping."""

import asyncio
from collections.abc import Mapping
from random import Random

import pytest

from metropolis.base.errors import UnavailableError
from metropolis.host import ProcessSpec
from metropolis.host.sim.clock import SimClock
from metropolis.host.sim.processes import Program, SimProcesses, SimProgram
from metropolis.sim import simulate
from metropolis.supervision import (
    Context,
    Entry,
    LeveledEntry,
    LogTree,
    ReadOptions,
    Runnable,
    RunnableStatus,
    Severity,
    State,
    Supervisor,
)
from metropolis.supervision.etcd_log import EtcdLogParser
from metropolis.supervision.klog import LineParser
from metropolis.supervision.process import Probe, run_process

SPEC = ProcessSpec(argv=["/usr/bin/etcd", "--password=hunter2"])


async def serve(_: SimProgram) -> int:
    await asyncio.sleep(10**6)
    return 0


def supervise(
    program: Program,
    *,
    for_s: float,
    probe: Probe | None = None,
    parser: LineParser | None = None,
    is_one_shot: bool = False,
) -> tuple[RunnableStatus, list[Entry], float]:
    """Run a program in a tree; return its status, its log, and how long stopping took."""

    async def scenario() -> tuple[RunnableStatus, list[Entry], float]:
        clock = SimClock()
        log_tree = LogTree(clock=clock)
        processes = SimProcesses({"/usr/bin/etcd": program})
        runnable = run_process(
            SPEC, processes=processes, probe=probe, parser=parser, is_one_shot=is_one_shot
        )
        tree = Supervisor(
            root_of({"etcd": runnable}), log_tree=log_tree, clock=clock, rng=Random(1)
        )
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(tree.run())
            await asyncio.sleep(for_s)
            status = tree.states()["root.etcd"]
            running.cancel()
        log = log_tree.read("", ReadOptions(with_children=True, backlog=None)).backlog
        return status, log, asyncio.get_running_loop().time() - for_s

    return simulate(scenario, seed=1)


def root_of(children: Mapping[str, Runnable]) -> Runnable:
    async def root(ctx: Context) -> None:
        ctx.run_group(children)
        ctx.healthy()
        await ctx.wait_cancelled()

    return root


def said(log: list[Entry]) -> list[str]:
    return [e.lines[0] if isinstance(e, LeveledEntry) else e.data.decode() for e in log]


def becomes_ready(after_s: float) -> Probe:
    async def probe() -> bool:
        now_s = asyncio.get_running_loop().time()
        if now_s < after_s / 2:
            raise UnavailableError("connection refused")
        return now_s >= after_s

    return probe


@pytest.mark.parametrize(("for_s", "state"), [(2.5, State.NEW), (3.2, State.HEALTHY)])
def test_a_program_is_healthy_when_its_probe_says_so(for_s: float, state: State) -> None:
    status, _, _ = supervise(serve, probe=becomes_ready(3), for_s=for_s)
    assert status.state is state


@pytest.mark.parametrize(("for_s", "state"), [(0.9, State.NEW), (1.1, State.HEALTHY)])
def test_without_a_probe_a_program_is_healthy_after_a_second(for_s: float, state: State) -> None:
    status, _, _ = supervise(serve, for_s=for_s)
    assert status.state is state


def test_a_program_that_never_gets_healthy_is_named_with_the_reason() -> None:
    _, log, _ = supervise(serve, probe=becomes_ready(300), for_s=70)
    assert said(log) == [
        "etcd is not healthy after 30 s: connection refused",
        "etcd is not healthy after 60 s: connection refused",
    ]


def test_a_probe_that_hangs_is_a_probe_that_fails() -> None:
    async def hangs() -> bool:
        await asyncio.sleep(10**6)
        return True

    status, log, _ = supervise(serve, probe=hangs, for_s=40)
    assert status.state is State.NEW
    assert "TimeoutError" in said(log)[0]


def test_a_bug_in_the_probe_is_a_failure_and_stops_the_program() -> None:
    ended: list[float] = []

    async def program(_: SimProgram) -> int:
        try:
            await asyncio.sleep(10**6)
        finally:
            ended.append(asyncio.get_running_loop().time())
        return 0

    async def broken() -> bool:
        await asyncio.sleep(0.1)
        raise KeyError("oops")

    status, _, _ = supervise(program, probe=broken, for_s=0.2)
    assert status.state is State.DEAD
    assert status.last_error == "KeyError: 'oops'"
    assert ended == [0.1]


async def exit_with_2(program: SimProgram) -> int:
    program.say("starting")
    program.say("cannot bind", stream="stderr")
    await asyncio.sleep(0.1)
    return 2


async def exit_with_0(_: SimProgram) -> int:
    await asyncio.sleep(0.1)
    return 0


async def crash(_: SimProgram) -> int:
    raise MemoryError


@pytest.mark.parametrize(
    ("program", "summary"),
    [
        (exit_with_2, "etcd exited with code 2"),
        (exit_with_0, "etcd exited with code 0"),
        (crash, "etcd was ended by signal 11 (SIGSEGV)"),
    ],
)
def test_an_exit_is_a_failure_that_names_program_and_code_but_no_argument(
    program: Program, summary: str
) -> None:
    status, log, _ = supervise(program, for_s=0.2)
    assert status.state is State.DEAD
    assert status.last_error == summary
    assert f"runnable returned error: {summary}" in said(log)
    assert "hunter2" not in repr(log)


def test_output_is_logged_as_raw_lines_before_the_failure() -> None:
    _, log, _ = supervise(exit_with_2, for_s=0.2)
    assert said(log)[:3] == [
        "starting",
        "cannot bind",
        "runnable returned error: etcd exited with code 2",
    ]


def test_output_is_parsed_if_there_is_a_parser() -> None:
    async def program(process: SimProgram) -> int:
        process.say('{"level":"warn","caller":"a/b.go:7","msg":"slow","took":"1s"}')
        process.say("panic: oh no")
        process.say('{"msg":"' + "x" * 9000 + '"}')
        await asyncio.sleep(10**6)
        return 0

    _, log, _ = supervise(program, parser=EtcdLogParser(), for_s=1)
    first, second, third = log
    assert isinstance(first, LeveledEntry)
    assert (first.lines, first.severity) == (('slow, took: "1s"',), Severity.WARNING)
    assert (first.dn, first.file, first.line) == ("root.etcd", "b.go", 7)
    assert said([second]) == ["Line that is no JSON: panic: oh no"]
    assert said([third])[0].startswith("Line too long to parse")


def test_a_private_key_printed_line_by_line_does_not_pass_through_a_parser() -> None:
    async def program(process: SimProgram) -> int:
        for line in (
            "-----BEGIN PRIVATE KEY-----",
            "MC4CAQAwBQYDK2Vw",
            "-----END PRIVATE KEY-----",
        ):
            process.say(line)
        await asyncio.sleep(10**6)
        return 0

    for parser in (EtcdLogParser(), None):
        _, log, _ = supervise(program, parser=parser, for_s=1)
        assert len(log) == 3
        assert "MC4C" not in repr(log)


def test_a_program_that_cannot_be_started_is_a_failure_with_a_remedy() -> None:
    async def scenario() -> None:
        clock = SimClock()
        log_tree = LogTree(clock=clock)
        runnable = run_process(SPEC, processes=SimProcesses({}), probe=None)
        root = root_of({"etcd": runnable})
        tree = Supervisor(root, log_tree=log_tree, clock=clock, rng=Random(1))
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(tree.run())
            await asyncio.sleep(0.1)
            running.cancel()
        (entry,) = log_tree.read("root.etcd", ReadOptions(backlog=None)).backlog
        assert isinstance(entry, LeveledEntry)
        assert entry.lines[:2] == (
            "runnable returned error: cannot run /usr/bin/etcd",
            "remedy: Install the program /usr/bin/etcd.",
        )

    simulate(scenario, seed=1)


def test_stopping_is_polite_and_hears_the_last_words() -> None:
    async def program(process: SimProgram) -> int:
        process.ignores_sigterm = True
        await process.sigterm.wait()
        await asyncio.sleep(2)
        process.say("goodbye")
        return 0

    _, log, took_s = supervise(program, for_s=5)
    assert said(log) == ["goodbye"]
    assert took_s == 2


def test_a_program_that_ignores_sigterm_is_killed() -> None:
    ended: list[float] = []

    async def program(process: SimProgram) -> int:
        process.ignores_sigterm = True
        try:
            await asyncio.sleep(10**6)
        finally:
            ended.append(asyncio.get_running_loop().time())
        return 0

    _, log, took_s = supervise(program, for_s=5)
    assert ended == [9.0]
    assert took_s == 4
    assert said(log) == [], "the tree did not call it stuck"


def test_a_one_shot_program_is_done_when_it_succeeds() -> None:
    status, _, _ = supervise(exit_with_0, is_one_shot=True, for_s=1)
    assert status.state is State.DONE
    status, _, _ = supervise(exit_with_2, is_one_shot=True, for_s=0.2)
    assert status.state is State.DEAD
