# SPDX-License-Identifier: Apache-2.0
"""Reads that are never stale, and calls that end with the tenure they began in."""

import asyncio
from contextlib import suppress

import pytest

from metropolis.base.errors import UnavailableError
from metropolis.cluster.gate import ReadGate
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.state import keys
from metropolis.cluster.state.records import encode, new_record
from metropolis.cluster.tenure import ENDED_AT_ONCE, Tenure
from metropolis.consensus.store import Put
from metropolis.rpc.status import NotLeaderError
from metropolis.sim.loop import simulate
from unit.cluster.harness import Bench, machine, run


class Truth:
    """A store whose answers a test hands out."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[int]] = []

    async def confirm(self) -> int:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]

    async def reach(self, revision: int) -> None:
        assert revision > 0
        await asyncio.sleep(0)


def test_a_read_waits_for_a_check_that_began_after_it() -> None:
    async def scenario() -> None:
        truth = Truth()
        gate = ReadGate(truth.confirm, truth.reach)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(gate.run())
            early = group.create_task(gate.wait())
            await asyncio.sleep(1)
            late = [group.create_task(gate.wait()) for _ in range(50)]
            await asyncio.sleep(1)
            truth.asked[0].set_result(1)
            await asyncio.sleep(1)
            assert early.done()
            assert not any(task.done() for task in late)
            truth.asked[1].set_result(2)
            await asyncio.sleep(1)
            assert all(task.done() for task in late)
            assert gate.checks == 2  # fifty readers, one check
            running.cancel()

    simulate(scenario, seed=1)


def test_readers_are_told_what_went_wrong_and_the_next_may_succeed() -> None:
    async def scenario() -> None:
        truth = Truth()
        gate = ReadGate(truth.confirm, truth.reach)
        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(_outcome(gate)) for _ in range(3)]
            await asyncio.sleep(1)
            running = group.create_task(gate.run())
            await asyncio.sleep(1)
            truth.asked[0].set_exception(UnavailableError("no quorum"))
            await asyncio.sleep(1)
            assert [type(await reader) for reader in readers] == [UnavailableError] * 3
            again = group.create_task(_outcome(gate))
            await asyncio.sleep(1)
            truth.asked[1].set_result(1)
            assert await again is None
            running.cancel()

    simulate(scenario, seed=1)


def test_readers_do_not_wait_for_ever() -> None:
    async def scenario() -> None:
        truth = Truth()
        gate = ReadGate(truth.confirm, truth.reach)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(gate.run())
            assert isinstance(await _outcome(gate), UnavailableError)
            running.cancel()

    simulate(scenario, seed=1)


def test_a_closed_gate_refuses_who_waits_and_who_comes() -> None:
    async def scenario() -> None:
        truth = Truth()
        gate = ReadGate(truth.confirm, truth.reach)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(gate.run())
            readers = [group.create_task(_outcome(gate))]
            await asyncio.sleep(1)
            readers.append(group.create_task(_outcome(gate)))
            await asyncio.sleep(1)
            running.cancel()
            assert [type(await reader) for reader in readers] == [NotLeaderError] * 2
            assert isinstance(await _outcome(gate), NotLeaderError)

    simulate(scenario, seed=1)


def test_a_reader_that_goes_away_disturbs_nobody() -> None:
    async def scenario() -> None:
        truth = Truth()
        gate = ReadGate(truth.confirm, truth.reach)
        async with asyncio.TaskGroup() as group:
            gone, stays = (group.create_task(gate.wait()) for _ in range(2))
            await asyncio.sleep(1)
            running = group.create_task(gate.run())
            await asyncio.sleep(1)
            gone.cancel()
            truth.asked[0].set_result(1)
            await stays
            running.cancel()

    simulate(scenario, seed=1)


async def _outcome(gate: ReadGate) -> BaseException | None:
    try:
        await gate.wait()
    except UnavailableError as error:
        return error
    return None


@pytest.mark.parametrize("seed", range(20))
def test_a_read_never_misses_what_was_acknowledged_before_it(seed: int) -> None:
    """What another leader wrote, that is: this one waits for its own writes anyway."""

    async def scenario(bench: Bench) -> None:
        elsewhere = bench.elsewhere()

        async def write_and_read(number: int) -> None:
            labels = {"number": str(number)}
            record = new_record(public_key=machine(number).key, state=NodeState.NEW)
            put = Put(keys.node(record.node_id), encode(record.with_labels(labels)))
            await elsewhere.transact([], [put])
            shown = await bench.show(machine(number))
            assert shown.labels.pairs[0].value == str(number)

        for number in range(2, 6):
            await write_and_read(number)
        await asyncio.gather(*(write_and_read(number) for number in range(6, 12)))

    run(scenario, seed=seed)


def test_calls_end_when_the_tenure_does() -> None:
    async def scenario() -> None:
        tenure, ends = Tenure(), []

        async def call() -> None:
            try:
                with tenure.bound():
                    await asyncio.sleep(100)
            except UnavailableError as error:
                ends.append((type(error), asyncio.get_running_loop().time()))

        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(call()) for _ in range(5)]
            await asyncio.sleep(3)
            tenure.end()
            tenure.end()
        # Not NotLeaderError, which callers repeat: these may have taken effect.
        assert ends == [(UnavailableError, 3.0)] * 5
        assert not any(task.cancelled() or task.cancelling() for task in calls)
        with pytest.raises(NotLeaderError), tenure.bound():
            pytest.fail("a call began after the end")

    simulate(scenario, seed=1)


def test_thousands_of_calls_leave_the_loop_time_for_the_next_election() -> None:
    calls_count = 10 * ENDED_AT_ONCE

    async def scenario() -> None:
        tenure, ended = Tenure(), 0

        async def call() -> None:
            nonlocal ended
            with suppress(UnavailableError), tenure.bound():
                await asyncio.sleep(100)
            ended += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(calls_count):
                group.create_task(call())
            await asyncio.sleep(1)
            tenure.end()
            assert tenure.is_over
            for _ in range(4):
                before = ended
                await asyncio.sleep(0)
                assert ended - before <= 2 * ENDED_AT_ONCE  # the seed orders callbacks
            assert 0 < ended < calls_count
        assert ended == calls_count
        assert asyncio.get_running_loop().time() == 1.0

    simulate(scenario, seed=1)


def test_a_call_that_ended_before_is_left_alone() -> None:
    async def scenario() -> None:
        tenure = Tenure()
        with tenure.bound():
            await asyncio.sleep(1)
        tenure.end()
        await asyncio.sleep(1)

    simulate(scenario, seed=1)


def test_a_caller_that_goes_away_cancels_as_ever() -> None:
    async def scenario() -> None:
        tenure = Tenure()

        async def call() -> None:
            with tenure.bound():
                await asyncio.sleep(100)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(call())
            await asyncio.sleep(1)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert task.cancelled()
            both = group.create_task(call())
            await asyncio.sleep(1)
            tenure.end()
            both.cancel()  # the caller goes at the same moment: nobody is left to be told
            with suppress(asyncio.CancelledError):
                await both
            assert both.cancelled()

    simulate(scenario, seed=1)


def test_a_timeout_inside_a_call_still_works() -> None:
    async def scenario() -> None:
        tenure = Tenure()
        with tenure.bound():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await asyncio.sleep(100)
            await asyncio.sleep(1)

    simulate(scenario, seed=1)
