# SPDX-License-Identifier: Apache-2.0
"""What streams say and when, to the second, in virtual time."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest
from typing_extensions import override

from metropolis.api import metal_boot_pb2 as boot
from metropolis.api import metal_messages_pb2 as pb
from metropolis.api.rpc_metal_boot import BootService
from metropolis.api.rpc_metal_messages import MessageService
from metropolis.base.errors import DeadlineExceededError, UnavailableError
from metropolis.host.sim.clock import SimClock
from metropolis.host.sim.entropy import SimEntropy
from metropolis.metal.messages.subscribing import Subscribing
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.message import Command, command_event
from metropolis.metal.seed import PARTITION
from metropolis.metal.services.machines import ensure_machine
from metropolis.metal.settings import Settings
from metropolis.metal.site import Site
from metropolis.metal.store import Change, Transaction
from metropolis.metal.store.sqlite import MEMORY, open_sqlite
from metropolis.metal.waiters import Waiters
from metropolis.rpc.channel import ClientStream
from metropolis.sim import simulate
from sim.metal.replicas import Boundaries, SimChannel, SimReplica
from sim.metal.world import agent_certificate

Stream = ClientStream[pb.SubscribeRequest, pb.SubscribeResponse]


class Stage:
    """One replica, and a channel of an agent to it."""

    def __init__(self, replica: SimReplica) -> None:
        self.replica = replica
        self.store = replica.site.store
        self.channel = SimChannel([replica], Random(1), certificate=agent_certificate())

    async def send(self, *targets: str) -> None:
        async def change(tx: Transaction) -> None:
            for target in targets:
                await tx.send(f"{PARTITION}-machine", command_event(target, Command.ON))

        await self.store.write(change)

    @asynccontextmanager
    async def subscribed(self) -> AsyncIterator[Stream]:
        async with self.channel.open(MessageService.SUBSCRIBE) as stream:
            await stream.send(pb.SubscribeRequest(start=pb.Start(in_flight_max=3)))
            yield stream


def play(scene: Callable[[Stage], Awaitable[None]]) -> None:
    async def whole() -> None:
        clock = SimClock()
        store = Boundaries(await open_sqlite(MEMORY, clock=clock))
        site = Site(store=store, clock=clock, entropy=SimEntropy(1), settings=Settings())
        replica = SimReplica(site, store)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(replica.run([]))
            await asyncio.sleep(0.1)
            await scene(Stage(replica))
            running.cancel()
        await store.close()

    simulate(whole, seed=1)


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def acknowledge(stream: Stream, sequence: int) -> None:
    await stream.send(pb.SubscribeRequest(acknowledge=pb.Acknowledge(sequence=sequence)))


async def hear(stream: Stream, for_s: float) -> list[tuple[int, bool, float]]:
    """Everything that is heard for so long: sequence, whether it came before, and when."""
    began_s, heard = now_s(), list[tuple[int, bool, float]]()
    while (left_s := began_s + for_s - now_s()) > 0:
        try:
            async with asyncio.timeout(left_s):
                message = await stream.receive()
        except TimeoutError:
            break
        assert message is not None
        heard.append((message.sequence, message.redelivered, round(now_s() - began_s)))
    return heard


def test_what_is_not_acknowledged_comes_again_after_half_a_minute() -> None:
    async def scene(stage: Stage) -> None:
        await stage.send("a", "b", "c", "d")
        async with stage.subscribed() as stream:
            heard = [each for each in await hear(stream, 63) if each[0]]
            assert heard == [
                (1, False, 0), (2, False, 0), (3, False, 0),
                (1, True, 30), (2, True, 30), (3, True, 30),
                (1, True, 60), (2, True, 60), (3, True, 60),
            ]  # fmt: skip
            await acknowledge(stream, 2)
            heard = [each for each in await hear(stream, 33) if each[0]]
            assert heard == [(4, False, 0), (3, True, 30), (4, True, 30)]
            await acknowledge(stream, 4)
            assert [each for each in await hear(stream, 90) if each[0]] == []

    play(scene)


def test_an_acknowledgement_puts_off_what_comes_again() -> None:
    async def scene(stage: Stage) -> None:
        await stage.send("a", "b")
        async with stage.subscribed() as stream:
            assert len([each for each in await hear(stream, 20) if each[0]]) == 2
            await acknowledge(stream, 1)
            assert [each[2] for each in await hear(stream, 31) if each[0]] == [30]

    play(scene)


def test_a_silent_stream_says_every_five_seconds_that_it_lives() -> None:
    async def scene(stage: Stage) -> None:
        async with stage.subscribed() as stream:
            assert await hear(stream, 21) == [(0, False, at) for at in (5, 10, 15, 20)]
            await asyncio.sleep(1)
            await stage.send("a")
            assert [each[0] for each in await hear(stream, 1)] == [1]

    play(scene)


def test_who_says_nothing_is_not_waited_for() -> None:
    async def scene(stage: Stage) -> None:
        async with stage.channel.open(MessageService.SUBSCRIBE) as stream:
            began_s = now_s()
            with pytest.raises(DeadlineExceededError, match="nothing was asked for"):
                await stream.receive()
            assert round(now_s() - began_s) == 10

    play(scene)


async def drain(
    stream: ClientStream[boot.BootServiceWaitRequest, boot.BootServiceWaitResponse],
) -> None:
    while await stream.receive() is not None:
        pass


def test_a_machine_hears_every_five_seconds_that_it_still_waits() -> None:
    async def scene(stage: Stage) -> None:
        await stage.store.write(lambda tx: ensure_machine(tx, "m", partition_id=PARTITION))
        request = boot.BootServiceWaitRequest(machine_id="m")
        async with stage.channel.open(BootService.WAIT) as stream:
            await stream.send(request)
            heard: dict[int, None] = {}  # its own offer wakes the stream once more at the start
            began_s = now_s()
            while len(heard) < 20:  # beyond the minute after which the machine is looked at anew
                assert await stream.receive() is not None
                heard[round(now_s() - began_s)] = None
            assert list(heard) == [5 * number for number in range(20)]
            found = await stage.store.read(lambda reader: reader.get(MACHINES, "m"))
            assert found.value.waiting
            before = await stage.store.read(lambda reader: reader.revision())
            await asyncio.sleep(600)
            assert await stage.store.read(lambda reader: reader.revision()) == before
            stage.replica.crash()
            with pytest.raises(UnavailableError):
                await drain(stream)

    play(scene)


def test_an_agent_that_takes_longer_than_messages_are_waited_for_does_them_once() -> None:
    async def scene(stage: Stage) -> None:
        done: list[int] = []

        async def handle(message: pb.SubscribeResponse) -> None:
            await asyncio.sleep(45)
            done.append(message.sequence)

        await stage.send("a", "b", "c")
        async with asyncio.TaskGroup() as group:
            working = group.create_task(Subscribing(stage.channel, handle).run())
            await asyncio.sleep(600)
            assert done == [1, 2, 3]
            working.cancel()

    play(scene)


class Faltering(Boundaries):
    """A store whose next news is lost with the connection that should bring it."""

    is_away = False

    @override
    async def watch(self, after: int) -> AsyncGenerator[Sequence[Change]]:
        async for changes in super().watch(after):
            if self.is_away:
                self.is_away = False
                raise UnavailableError("the database is away", remedy="Wait.")
            yield changes


def test_what_changed_while_the_database_was_away_wakes_whoever_waits_for_it() -> None:
    async def whole() -> None:
        store = Faltering(await open_sqlite(MEMORY, clock=SimClock()))
        waiters = Waiters(store)
        async with asyncio.TaskGroup() as group:
            waking = group.create_task(waiters.run())
            await asyncio.sleep(1)
            with (
                waiters.waiting((MACHINES.name, "m"), (MACHINES.name, "n")) as changed,
                waiters.waiting((MACHINES.name, "o")) as other,
            ):
                await store.write(lambda tx: ensure_machine(tx, "n"))
                await asyncio.wait_for(changed.wait(), 1)
                assert not other.is_set()
                changed.clear()
                store.is_away = True
                await store.write(lambda tx: ensure_machine(tx, "m"))
                await asyncio.sleep(0.5)
                assert not changed.is_set()
                await asyncio.wait_for(changed.wait(), 5)
            assert not waiters.is_awaited((MACHINES.name, "m"))
            waking.cancel()
        await store.close()

    simulate(whole, seed=1)
