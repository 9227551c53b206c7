# SPDX-License-Identifier: Apache-2.0
"""The simulated machine: what a power cut leaves, and faults no real machine shows on demand."""

import asyncio
import errno
from datetime import timedelta
from random import Random

import pytest

from metropolis.base.errors import UnavailableError
from metropolis.host import Host, ProcessSpec
from metropolis.host.sim.clock import EARLIEST, EPOCH, SimClock
from metropolis.host.sim.machine import SimHost
from metropolis.host.sim.processes import SimProgram
from metropolis.sim import simulate


def machine(seed: int = 1) -> SimHost:
    return SimHost("n1", rng=Random(seed), addresses=["10.0.0.1"])


def test_what_was_written_survives_a_crash_and_ephemeral_files_do_not() -> None:
    async def scenario() -> None:
        box = machine()
        first = box.boot()
        await first.storage.write("a/b", b"kept")
        await first.ephemeral.write("c", b"gone")
        second = box.restart()
        assert await second.storage.read("a/b") == b"kept"
        assert not await second.ephemeral.exists("c")
        assert first.boot_id != second.boot_id
        assert len(second.boot_id) == 16

    simulate(scenario, seed=1)


def test_a_write_in_flight_is_old_or_new_after_a_crash_and_its_caller_never_hears_of_it() -> None:
    async def scenario(seed: int) -> tuple[bytes, bool]:
        box = machine(seed)
        host = box.boot()
        await host.storage.write("f", b"old")
        box.disk.latency_s = (5.0, 5.0)
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(attempt(host, "f", b"new"))
            behind = tasks.create_task(attempt(host, "behind", b"never"))
            await asyncio.sleep(4)
            box.crash()
        assert (await first, await behind) == (errno.EIO, errno.EIO)
        box.disk.latency_s = (0.0, 0.0)
        again = box.boot()
        return await again.storage.read("f"), await again.storage.exists("behind")

    async def attempt(host: Host, path: str, data: bytes) -> int | None:
        if path == "behind":
            await asyncio.sleep(1)  # so that it is second in the queue
        try:
            await host.storage.write(path, data)
        except OSError as error:
            return error.errno
        return None

    outcomes = {simulate(lambda seed=seed: scenario(seed), seed=seed) for seed in range(20)}  # type: ignore[misc]
    assert outcomes == {(b"old", False), (b"new", False)}


def test_an_overwriting_in_flight_may_be_torn_by_a_crash() -> None:
    async def scenario(seed: int) -> bytes:
        box = machine(seed)
        host = box.boot()
        await host.storage.write("f", b"old and longer")
        box.disk.latency_s = (5.0, 5.0)

        async def attempt() -> None:
            with pytest.raises(OSError, match="no power"):
                await host.storage.overwrite("f", b"new")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(attempt())
            await asyncio.sleep(4)
            box.crash()
        box.disk.latency_s = (0.0, 0.0)
        return await box.boot().storage.read("f")

    outcomes = {simulate(lambda seed=seed: scenario(seed), seed=seed) for seed in range(40)}  # type: ignore[misc]
    assert outcomes > {b"new", b"old and longer"}
    assert all(each.endswith(b"longer") or each == b"new" for each in outcomes)


def test_the_code_of_an_ended_boot_cannot_touch_what_the_next_one_finds() -> None:
    async def scenario() -> None:
        box = machine()
        old = box.boot()
        new = box.restart()
        await new.storage.write("f", b"new")
        with pytest.raises(OSError, match="no power"):
            await old.storage.write("f", b"zombie")
        with pytest.raises(OSError, match="no power"):
            await old.storage.read("f")
        with pytest.raises(OSError, match="no power"):
            await old.ephemeral.remove("f")
        assert await new.storage.read("f") == b"new"

    simulate(scenario, seed=1)


def test_a_cancelled_write_is_finished_before_the_cancellation_goes_on() -> None:
    async def scenario() -> None:
        box = machine()
        host = box.boot()
        box.disk.latency_s = (2.0, 2.0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await host.storage.write("f", b"written")
        assert asyncio.get_running_loop().time() == 2.0
        assert await host.storage.read("f") == b"written"

    simulate(scenario, seed=1)


def test_concurrent_writes_keep_the_order_in_which_they_began() -> None:
    async def scenario() -> bytes:
        box = machine()
        box.disk.latency_s = (0.0, 5.0)
        host = box.boot()

        async def write(number: int) -> None:
            await asyncio.sleep(number / 100)
            await host.storage.write("f", b"%d" % number)

        async with asyncio.TaskGroup() as tasks:
            for number in range(20):
                tasks.create_task(write(number))
        return await host.storage.read("f")

    assert all(simulate(scenario, seed=seed) == b"19" for seed in range(5))


def test_a_full_disk_refuses_what_it_cannot_hold_beside_the_old_content() -> None:
    async def scenario() -> None:
        box = machine()
        host = box.boot()
        box.disk.capacity_bytes = 100
        await host.storage.write("f", b"x" * 60)
        with pytest.raises(OSError, match="No space") as caught:
            await host.storage.write("f", b"y" * 60)
        assert caught.value.errno == errno.ENOSPC
        assert await host.storage.read("f") == b"x" * 60
        await host.storage.remove("f")
        await host.storage.write("f", b"y" * 60)

    simulate(scenario, seed=1)


def test_a_broken_disk_fails_and_works_again_once_repaired() -> None:
    async def scenario() -> None:
        box = machine()
        host = box.boot()
        await host.storage.write("f", b"1")
        box.disk.is_broken = True
        with pytest.raises(OSError, match="Input/output"):
            await host.storage.write("f", b"2")
        with pytest.raises(OSError, match="Input/output"):
            await host.storage.read("f")
        box.disk.is_broken = False
        assert await host.storage.read("f") == b"1"

    simulate(scenario, seed=1)


def test_the_wall_clock_drifts_and_steps_and_the_monotonic_one_does_not() -> None:
    async def scenario() -> None:
        clock = SimClock()
        await asyncio.sleep(100)
        assert clock.wall() == EPOCH + timedelta(seconds=100)
        clock.step(-3600)
        assert clock.wall() == EPOCH + timedelta(seconds=100 - 3600)
        clock.set_drift(1_000_000)  # twice as fast
        await asyncio.sleep(10)
        assert clock.wall() == EPOCH + timedelta(seconds=120 - 3600)
        assert clock.monotonic_s() == 110
        clock.step(-1e15)
        assert clock.wall() == EARLIEST

    simulate(scenario, seed=1)


def test_a_machine_draws_the_same_keys_from_the_same_seed_and_others_at_its_next_boot() -> None:
    async def keys(seed: int) -> tuple[bytes, bytes]:
        box = machine(seed)
        return box.boot().entropy.token_bytes(32), box.restart().entropy.token_bytes(32)

    once = simulate(lambda: keys(4), seed=1)
    assert once == simulate(lambda: keys(4), seed=2)
    assert once != simulate(lambda: keys(5), seed=1)
    assert once[0] != once[1]


async def talkative(program: SimProgram) -> int:
    program.say("hello")
    program.say("oops", stream="stderr")
    await asyncio.sleep(1)
    return 3


async def stubborn(program: SimProgram) -> int:
    program.ignores_sigterm = True
    await program.sigterm.wait()
    program.say("no")
    await asyncio.Event().wait()
    return 0


async def crashing(_program: SimProgram) -> int:
    raise ValueError("segmentation")


PROGRAMS = {"talkative": talkative, "stubborn": stubborn, "crashing": crashing}


def test_programs_print_exit_ignore_signals_and_die_with_the_power() -> None:
    async def scenario() -> None:
        box = SimHost("n1", rng=Random(1), addresses=["10.0.0.1"], programs=PROGRAMS)
        host = box.boot()
        process = await host.processes.spawn(ProcessSpec(argv=["talkative"]))
        assert await process.receive_line() == ("stdout", b"hello")
        assert await process.receive_line() == ("stderr", b"oops")
        assert await process.receive_line() is None
        assert await process.wait() == 3
        process.kill()

        process = await host.processes.spawn(ProcessSpec(argv=["stubborn"]))
        await asyncio.sleep(0.1)
        process.terminate()
        assert await process.receive_line() == ("stdout", b"no")
        process.kill()
        assert await process.wait() == -9

        process = await host.processes.spawn(ProcessSpec(argv=["crashing"]))
        assert await process.wait() == -11

        process = await host.processes.spawn(ProcessSpec(argv=["talkative"]))
        process.terminate()
        assert await process.wait() == -15

        process = await host.processes.spawn(ProcessSpec(argv=["stubborn"]))
        box.crash()
        assert await process.wait() == -9
        with pytest.raises(UnavailableError, match="cannot run talkative"):
            await host.processes.spawn(ProcessSpec(argv=["talkative"]))

    simulate(scenario, seed=1)


def test_an_unknown_program_cannot_be_run() -> None:
    async def scenario() -> None:
        with pytest.raises(UnavailableError, match="cannot run etcd"):
            await machine().boot().processes.spawn(ProcessSpec(argv=["etcd"]))

    simulate(scenario, seed=1)
