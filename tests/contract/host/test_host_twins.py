# SPDX-License-Identifier: Apache-2.0
"""What every machine does, real or simulated: each promise of `metropolis.host`, asked of both."""

import asyncio
import errno
import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from pathlib import Path
from random import Random

import pytest
import uvloop

from metropolis.base.errors import UnavailableError
from metropolis.host import Host, Process, ProcessSpec
from metropolis.host.linux.machine import linux_host
from metropolis.host.sim.machine import SimHost
from metropolis.host.sim.processes import Program, SimProgram
from metropolis.sim import simulate

Scenario = Callable[[Host], Awaitable[None]]

SCRIPTS = {
    "talks": "echo hello; echo oops >&2; exit 3",
    "says-much": "head -c 20000 /dev/zero | tr '\\0' x; echo; echo end",
    "says-many-lines": "for i in $(seq 2000); do echo line $i; done",
    "sleeps": "exec sleep 1000",
    "is-stubborn": "trap '' TERM; echo ready; while true; do sleep 1000; done",
    "reads": "tr a-z A-Z",
    "shows-environment": 'echo "${COLOUR}-${HOME}-$(pwd)"',
}


async def _talks(me: SimProgram) -> int:
    me.say("hello")
    me.say("oops", stream="stderr")
    return 3


async def _says_much(me: SimProgram) -> int:
    me.say("x" * 20_000)
    me.say("end")
    return 0


async def _says_many_lines(me: SimProgram) -> int:
    for number in range(1, 2001):
        me.say(f"line {number}")
    return 0


async def _sleeps(me: SimProgram) -> int:
    await asyncio.sleep(1000)
    return len(me.spec.argv)


async def _is_stubborn(me: SimProgram) -> int:
    me.ignores_sigterm = True
    me.say("ready")
    await asyncio.sleep(1_000_000)
    return 0


async def _shows_environment(me: SimProgram) -> int:
    variables = me.spec.environment
    me.say(f"{variables.get('COLOUR', '')}-{variables.get('HOME', '')}-{me.spec.working_directory}")
    return 0


async def _reads(me: SimProgram) -> int:
    for line in (me.spec.standard_input or b"").splitlines():
        me.say(line.decode().upper())
    return 0


PROGRAMS: dict[str, Program] = {
    "reads": _reads,
    "talks": _talks,
    "says-much": _says_much,
    "says-many-lines": _says_many_lines,
    "sleeps": _sleeps,
    "is-stubborn": _is_stubborn,
    "shows-environment": _shows_environment,
}


@dataclass(frozen=True)
class Twin:
    """One of the machines under test."""

    run: Callable[[Scenario], None]
    argv: Callable[[str], list[str]]

    def spec(self, program: str) -> ProcessSpec:
        return ProcessSpec(argv=self.argv(program), environment={"PATH": "/usr/bin:/bin"})


@pytest.fixture(params=["linux", "linux-uvloop", "sim"])
def twin(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Twin]:
    if request.param == "sim":
        box = SimHost("n1", rng=Random(1), addresses=["10.0.0.1"], programs=PROGRAMS)

        def run_simulated(scenario: Scenario) -> None:
            simulate(lambda: scenario(box.restart()), seed=1)

        yield Twin(run=run_simulated, argv=lambda program: [program])
        return

    host = linux_host(
        storage=tmp_path / "storage",
        ephemeral=tmp_path / "ephemeral",
        hosts_path=tmp_path / "hosts",
        addresses=["10.0.0.1"],
    )
    (tmp_path / "hosts").touch()

    async def bounded(scenario: Scenario) -> None:
        async with asyncio.timeout(30):
            await scenario(host)

    def run(scenario: Scenario) -> None:
        runner = uvloop.run if request.param == "linux-uvloop" else asyncio.run
        runner(bounded(scenario))

    yield Twin(
        run=run,
        argv=lambda program: (
            ["/bin/sh", "-c", SCRIPTS[program]] if program in SCRIPTS else [program]
        ),
    )


async def lines_of(process: Process) -> list[tuple[str, bytes]]:
    lines = []
    while (line := await process.receive_line()) is not None:
        lines.append(line)
    return lines


# Standard input


def test_a_program_reads_what_it_was_given_to_its_end(twin: Twin) -> None:
    async def scenario(host: Host) -> None:
        spec = replace(twin.spec("reads"), standard_input=b"secret\nwords\n")
        process = await host.processes.spawn(spec)
        assert await lines_of(process) == [("stdout", b"SECRET"), ("stdout", b"WORDS")]
        assert await process.wait() == 0

    twin.run(scenario)


def test_a_program_that_was_given_nothing_reads_nothing(twin: Twin) -> None:
    async def scenario(host: Host) -> None:
        process = await host.processes.spawn(twin.spec("reads"))
        assert await lines_of(process) == []
        assert await process.wait() == 0

    twin.run(scenario)


def test_what_a_program_is_given_to_read_is_not_printed_with_it(twin: Twin) -> None:
    assert "secret" not in repr(replace(twin.spec("reads"), standard_input=b"secret"))


# Directory


def test_what_is_overwritten_becomes_longer_and_shorter(twin: Twin) -> None:
    async def scenario(host: Host) -> None:
        for data in (b"first", b"second, and longer", b"3", b""):
            await host.storage.overwrite("a/b/c", data)
            assert await host.storage.read("a/b/c") == data

    twin.run(scenario)


def test_what_was_written_is_read_and_replaced_whole(twin: Twin) -> None:
    async def scenario(host: Host) -> None:
        await host.storage.write("a/b/c", b"first, and rather long")
        await host.storage.write("a/b/c", b"second")
        assert await host.storage.read("a/b/c") == b"second"
        assert await host.storage.exists("a/b/c")
        assert await host.storage.exists("a/b")
        assert not await host.storage.exists("a/x")

    twin.run(scenario)


def test_a_disk_tells_how_much_more_it_takes(twin: Twin) -> None:
    async def scenario(host: Host) -> None:
        await host.storage.make_directory("a")
        free_bytes = await host.storage.free_bytes()
        assert free_bytes > 1 << 20
        await host.storage.write("a/b", bytes(1 << 20))
        assert await host.storage.free_bytes() != free_bytes  # others may write here, too

    twin.run(scenario)


def test_a_missing_file_is_a_file_not_found_error(twin: Twin) -> None:
    async def scenario(host: Host) -> None:
        with pytest.raises(FileNotFoundError):
            await host.storage.read("nothing/here")
        await host.storage.make_directory("d")
        with pytest.raises(OSError) as caught:
            await host.storage.read("d")
        assert caught.value.errno == errno.EISDIR

    twin.run(scenario)


def test_names_are_listed_sorted_and_a_missing_directory_is_empty(twin: Twin) -> None:
    async def scenario(host: Host) -> None:
        assert list(await host.storage.list("d")) == []
        for name in ("b", "a", "c/d"):
            await host.storage.write(f"d/{name}", b"")
        assert list(await host.storage.list("d")) == ["a", "b", "c"]
        await host.storage.make_directory("d/e")
        assert list(await host.storage.list("d")) == ["a", "b", "c", "e"]
        assert list(await host.storage.list("")) == ["d"]

    twin.run(scenario)


def test_removing_what_is_not_there_is_fine(twin: Twin) -> None:
    async def scenario(host: Host) -> None:
        await host.storage.remove("a")
        await host.storage.remove_tree("a")
        await host.storage.write("a/b", b"1")
        await host.storage.remove("a/b")
        assert not await host.storage.exists("a/b")
        await host.storage.write("a/b/c", b"1")
        await host.storage.remove_tree("a")
        assert not await host.storage.exists("a")
        await host.storage.make_directory("a")
        await host.storage.make_directory("a")
        assert list(await host.storage.list("a")) == []

    twin.run(scenario)


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a/..", "a\0b"])
def test_paths_that_leave_the_directory_are_refused(twin: Twin, path: str) -> None:
    async def scenario(host: Host) -> None:
        with pytest.raises(ValueError, match="not a path inside"):
            await host.storage.write(path, b"")
        with pytest.raises(ValueError, match="not a path inside"):
            await host.storage.read(path)
        with pytest.raises(ValueError, match="not a path inside"):
            host.storage.absolute(path)

    twin.run(scenario)


def test_an_absolute_path_is_the_directory_and_the_path(twin: Twin) -> None:
    async def scenario(host: Host) -> None:
        root = host.storage.absolute("")
        assert root.startswith("/")
        assert host.storage.absolute("a/b") == f"{root}/a/b"

    twin.run(scenario)


def test_writes_of_one_file_are_kept_in_their_order_even_when_cancelled(twin: Twin) -> None:
    async def scenario(host: Host) -> None:
        for round_number in range(20):
            async with asyncio.TaskGroup() as tasks:
                first = tasks.create_task(host.storage.write("f", b"cancelled"))
                await asyncio.sleep(0)
                first.cancel()
            await host.storage.write("f", str(round_number).encode())
            await asyncio.sleep(0.001)
            assert await host.storage.read("f") == str(round_number).encode()

    twin.run(scenario)


# Processes


def test_a_program_talks_on_both_streams_and_leaves_its_exit_code(twin: Twin) -> None:
    async def scenario(host: Host) -> None:
        process = await host.processes.spawn(twin.spec("talks"))
        lines = await lines_of(process)
        assert sorted(lines) == [("stderr", b"oops"), ("stdout", b"hello")]
        assert await process.wait() == 3
        assert await process.wait() == 3
        process.terminate()
        process.kill()
        assert await process.receive_line() is None

    twin.run(scenario)


def test_a_line_is_cut_at_16_kib_and_the_next_one_is_whole(twin: Twin) -> None:
    async def scenario(host: Host) -> None:
        process = await host.processes.spawn(twin.spec("says-much"))
        assert await lines_of(process) == [("stdout", b"x" * 16_384), ("stdout", b"end")]
        assert await process.wait() == 0

    twin.run(scenario)


def test_a_slow_reader_loses_no_line(twin: Twin) -> None:
    async def scenario(host: Host) -> None:
        process = await host.processes.spawn(twin.spec("says-many-lines"))
        await asyncio.sleep(0.2)
        lines = [line for _, line in await lines_of(process)]
        assert lines == [f"line {number}".encode() for number in range(1, 2001)]
        assert await process.wait() == 0

    twin.run(scenario)


def test_a_cancelled_reader_loses_no_line(twin: Twin) -> None:
    async def scenario(host: Host) -> None:
        process = await host.processes.spawn(twin.spec("is-stubborn"))
        assert await process.receive_line() == ("stdout", b"ready")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await process.receive_line()
        process.kill()
        assert await process.receive_line() is None
        assert await process.wait() == -signal.SIGKILL

    twin.run(scenario)


def test_sigterm_ends_a_program_and_is_its_exit_code(twin: Twin) -> None:
    async def scenario(host: Host) -> None:
        process = await host.processes.spawn(twin.spec("sleeps"))
        process.terminate()
        assert await process.wait() == -signal.SIGTERM
        assert await process.receive_line() is None

    twin.run(scenario)


def test_only_sigkill_ends_a_program_that_ignores_sigterm(twin: Twin) -> None:
    async def scenario(host: Host) -> None:
        process = await host.processes.spawn(twin.spec("is-stubborn"))
        assert await process.receive_line() == ("stdout", b"ready")
        process.terminate()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await process.wait()
        process.kill()
        assert await process.wait() == -signal.SIGKILL

    twin.run(scenario)


def test_a_program_sees_exactly_the_environment_and_directory_it_is_given(twin: Twin) -> None:
    async def scenario(host: Host) -> None:
        spec = ProcessSpec(
            argv=twin.argv("shows-environment"),
            environment={"COLOUR": "green", "PATH": "/usr/bin:/bin"},
            working_directory="/usr",
        )
        process = await host.processes.spawn(spec)
        assert await lines_of(process) == [("stdout", b"green--/usr")]
        assert await process.wait() == 0

    twin.run(scenario)


def test_a_program_that_is_not_there_is_named_with_a_remedy(twin: Twin) -> None:
    async def scenario(host: Host) -> None:
        with pytest.raises(UnavailableError, match="no-such-program") as caught:
            await host.processes.spawn(twin.spec("no-such-program"))
        assert "install" in caught.value.remedy.lower()

    twin.run(scenario)


# Names, clock, entropy


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "-a", "a/b", "x" * 300])
def test_names_that_no_host_can_have_are_refused(twin: Twin, name: str) -> None:
    async def scenario(host: Host) -> None:
        with pytest.raises(ValueError, match="not a host name"):
            await host.names.set_hosts({name: "10.0.0.1"})
        with pytest.raises(ValueError, match="not a host name"):
            await host.names.set_host_name(name)

    twin.run(scenario)


def test_a_name_resolves_to_a_literal_address_only(twin: Twin) -> None:
    async def scenario(host: Host) -> None:
        await host.names.set_hosts({"node-1": "10.0.0.1", "node-2": "fd00::2"})
        for address in ("example.org", "10.0.0.1\n10.0.0.2 evil", "10.0.0.256"):
            with pytest.raises(ValueError, match="IPv4 or IPv6"):
                await host.names.set_hosts({"node-1": address})

    twin.run(scenario)


def test_time_goes_on_while_waiting_and_wall_time_is_aware(twin: Twin) -> None:
    async def scenario(host: Host) -> None:
        before_s, before = host.clock.monotonic_s(), host.clock.wall()
        await asyncio.sleep(0.02)
        assert 0.019 <= host.clock.monotonic_s() - before_s < 10
        assert before.tzinfo is UTC
        assert timedelta(0) < host.clock.wall() - before < timedelta(seconds=10)

    twin.run(scenario)


def test_random_bytes_have_the_length_asked_for_and_differ(twin: Twin) -> None:
    async def scenario(host: Host) -> None:
        tokens = [host.entropy.token_bytes(count) for count in (0, 1, 32, 1000)]
        assert [len(token) for token in tokens] == [0, 1, 32, 1000]
        assert host.entropy.token_bytes(32) != host.entropy.token_bytes(32)
        assert host.entropy.jitter().random() != host.entropy.jitter().random()
        assert len(host.boot_id) == 16

    twin.run(scenario)
