# SPDX-License-Identifier: Apache-2.0
"""What three simulated nodes do when one of them is paused, full, slow, or lives at another time.

Every scenario writes through the API all the time. What was acknowledged must be there afterwards.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from metropolis.api import management_pb2
from metropolis.base.errors import MetropolisError, UnavailableError
from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.cluster.state import keys
from metropolis.host.sim.disk import CAPACITY_BYTES
from metropolis.pki.identity import insecure_verifier
from metropolis.rpc.transport import Endpoint
from metropolis.sim.invariants import OnlyTheLeaderWrites, node_records
from metropolis.sim.life import GUARDED
from metropolis.sim.loop import simulate
from metropolis.sim.world import Machine
from sim.node.grown import Cluster, grown

HOUR_S = 3600.0
PAUSE_S = 30.0
UNMOVED = "10.0.255.2"  # a client whose requests wait in a stopped machine
LABELS = 50  # of one node; there may be 128
WRITE_EVERY_S = 0.5
FAILOVER_S = 15.0  # within which somebody else leads


class Labels:
    """Sets labels to growing numbers and knows which were acknowledged."""

    def __init__(self, cluster: Cluster, node_id: str) -> None:
        self._cluster = cluster
        self._node_id = node_id
        self._acknowledged: dict[str, int] = {}
        self.count = 0

    async def write(self) -> None:
        operator, channel = self._cluster.operator, self._cluster.channel
        for number in itertools.count():
            name = f"n{number % LABELS}"
            try:
                await operator.label(channel, self._node_id, name, str(number))
            except MetropolisError:
                await asyncio.sleep(0.2)
            else:
                self._acknowledged[name] = number
                self.count += 1
            await asyncio.sleep(WRITE_EVERY_S)

    def check(self) -> None:
        keyspace = self._cluster.world.consensus.cluster.keyspace
        stored = next(each for each in node_records(keyspace) if each.node_id == self._node_id)
        for name, number in self._acknowledged.items():
            assert int(stored.labels[name]) >= number


@asynccontextmanager
async def written(cluster: Cluster) -> AsyncIterator[Labels]:
    """Write while the block runs; afterwards nothing acknowledged is missing, and writes go on."""
    writes = OnlyTheLeaderWrites(cluster.world.consensus, election=keys.LEADER, guarded=GUARDED)
    cluster.world.invariants.add("only the leader writes", writes.check)
    labels = Labels(cluster, await cluster.node_id(cluster.world.machines[0]))
    writer = asyncio.create_task(labels.write())
    await asyncio.sleep(2)
    assert labels.count
    yield labels
    before = labels.count
    await asyncio.sleep(FAILOVER_S)
    assert labels.count > before, "nobody can write any more"
    writer.cancel()
    await asyncio.wait([writer])
    labels.check()


def leader_of(cluster: Cluster) -> Machine:
    """The machine whose election key is the oldest."""
    keyspace = cluster.world.consensus.cluster.keyspace
    oldest = min(keyspace.scan(keys.LEADER).items, key=lambda item: item.create_revision)
    return next(
        machine
        for record in node_records(keyspace)
        for machine in cluster.world.machines
        if record.node_id.encode() in oldest.value and record.external_address == machine.address
    )


async def write_at(cluster: Cluster, machine: Machine, node_id: str) -> None:
    """Write through one machine and nobody else."""
    channel = cluster.world.operator_transport(UNMOVED).dial(
        Endpoint(machine.address, CURATOR_TCP_PORT),
        credentials=cluster.operator.credentials,
        verify=insecure_verifier(),
    )
    try:
        await cluster.operator.label(channel, node_id, "stale", "yes")
    finally:
        await channel.close()


@pytest.mark.parametrize("seed", range(10))
def test_a_leader_that_was_stopped_for_30_s_writes_nothing_when_it_goes_on(seed: int) -> None:
    async def scenario() -> None:
        async with grown(machines=3, voters=3) as cluster, written(cluster) as labels:
            stale = leader_of(cluster)
            node_id = await cluster.node_id(stale)
            stale.pause()
            asked = asyncio.create_task(
                write_at(cluster, stale, node_id)
            )  # it waits in the stopped machine
            await asyncio.sleep(FAILOVER_S)
            before = labels.count
            await asyncio.sleep(PAUSE_S - FAILOVER_S)
            assert labels.count > before, "nobody took over"
            late = asyncio.create_task(write_at(cluster, stale, node_id))
            stale.resume()
            for each in (asked, late):
                with pytest.raises(MetropolisError):
                    await each
            assert leader_of(cluster) is not stale

    simulate(scenario, seed=seed)


@pytest.mark.parametrize("everybody", [False, True])
def test_a_full_disk_loses_nothing_and_is_over_when_there_is_room(everybody: bool) -> None:
    async def scenario() -> None:
        async with grown(machines=3, voters=3) as cluster, written(cluster):
            machines = cluster.world.machines if everybody else [leader_of(cluster)]
            for machine in machines:
                machine.host.disk.capacity_bytes = machine.host.disk.used_bytes
            await asyncio.sleep(PAUSE_S)
            for machine in machines:
                await machine.kill()
                machine.boot()
            await asyncio.sleep(PAUSE_S)
            for machine in machines:
                machine.host.disk.capacity_bytes = CAPACITY_BYTES

    simulate(scenario, seed=1)


@pytest.mark.parametrize("stall_s", [0.1, 1.0, 10.0])
def test_the_cluster_goes_on_while_the_leaders_disk_stalls(stall_s: float) -> None:
    async def scenario() -> None:
        async with grown(machines=3, voters=3) as cluster, written(cluster) as labels:
            machine, consensus = leader_of(cluster), cluster.world.consensus
            machine.host.disk.latency_s = (stall_s, stall_s)
            (member,) = consensus.members_on(machine.address)
            consensus.slow_disk(member, stall_s)
            await asyncio.sleep(FAILOVER_S)
            before = labels.count
            await asyncio.sleep(PAUSE_S)
            assert labels.count > before
            machine.host.disk.latency_s = (0.0, 0.0)
            consensus.slow_disk(member, 0.0)

    simulate(scenario, seed=1)


@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S, 87_660 * HOUR_S, -87_660 * HOUR_S])
@pytest.mark.parametrize("everybody", [False, True])
def test_clocks_that_step_interrupt_nobody(step_s: float, everybody: bool) -> None:
    async def scenario() -> None:
        async with grown(machines=3, voters=3) as cluster, written(cluster) as labels:
            leader = leader_of(cluster)
            before = labels.count
            for machine in cluster.world.machines if everybody else [leader]:
                machine.host.clock.step(step_s)
            await asyncio.sleep(PAUSE_S)
            assert labels.count >= before + PAUSE_S, "clients had to wait"
            assert leader_of(cluster) is leader, "the lease follows a clock that steps"
            assert all(
                node.health == management_pb2.Node.HEALTH_HEALTHY for node in await cluster.nodes()
            )
            for machine in cluster.world.machines:
                await machine.kill()
                machine.boot()
            await asyncio.sleep(PAUSE_S)
            assert {node.state for node in await cluster.nodes()} == {3}

    simulate(scenario, seed=1)


def votes(cluster: Cluster) -> int:
    return len(cluster.world.consensus.cluster.roster.voters())


async def reached(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(2 * PAUSE_S):
        while not condition():  # noqa: ASYNC110  # of a world
            await asyncio.sleep(0.5)


def test_a_learner_that_is_stuck_costs_no_majority_and_can_be_taken_back() -> None:
    async def scenario() -> None:
        async with grown(machines=4, voters=1) as cluster, written(cluster) as labels:
            _, stuck, other, _ = cluster.world.machines
            await stuck.stop()
            await cluster.set_consensus(stuck, is_member=True)
            before = labels.count
            await asyncio.sleep(PAUSE_S)
            assert votes(cluster) == 1, "what never started votes"
            assert labels.count >= before + PAUSE_S
            with pytest.raises(UnavailableError, match="still catching up"):
                await cluster.operator.set_consensus(
                    cluster.channel, await cluster.node_id(other), is_member=True
                )
            await cluster.set_consensus(stuck, is_member=False)
            await cluster.set_consensus(other, is_member=True)
            await reached(lambda: votes(cluster) == 2)
            stuck.boot()

    simulate(scenario, seed=1)


def test_a_member_that_died_is_deleted_and_replaced_while_clients_write() -> None:
    async def scenario() -> None:
        async with grown(machines=4, voters=3) as cluster, written(cluster) as labels:
            dead = next(
                each for each in cluster.world.machines[1:3] if each is not leader_of(cluster)
            )
            spare = cluster.world.machines[3]
            await dead.crash()
            await asyncio.sleep(FAILOVER_S)
            before = labels.count
            await cluster.delete(dead)
            await cluster.set_consensus(spare, is_member=True)
            await reached(lambda: votes(cluster) == 3)
            await reached(lambda: labels.count > before)
            assert len(await cluster.nodes()) == 3

    simulate(scenario, seed=1)


def test_the_second_of_two_members_that_are_left_is_not_taken_while_one_is_down() -> None:
    async def scenario() -> None:
        async with grown(machines=3, voters=3) as cluster:
            one, other = (each for each in cluster.world.machines if each is not leader_of(cluster))
            ids = [await cluster.node_id(each) for each in (one, other)]
            await one.crash()
            await asyncio.sleep(FAILOVER_S)
            with pytest.raises(MetropolisError, match="could not remove node"):
                await cluster.operator.set_consensus(cluster.channel, ids[1], is_member=False)
            assert votes(cluster) == 3
            await cluster.operator.set_consensus(cluster.channel, ids[0], is_member=False)
            assert votes(cluster) == 2

    simulate(scenario, seed=1)
