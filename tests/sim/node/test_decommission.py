# SPDX-License-Identifier: Apache-2.0
"""A node that is decommissioned wipes its machine, whoever crashes meanwhile, and stays wiped."""

import asyncio

import pytest

from metropolis.api.common_pb2 import NODE_STATE_DECOMMISSIONED
from metropolis.api.decommission_pb2 import DecommissionRequest, DecommissionStep
from metropolis.api.management_pb2 import DecommissionNodeRequest, DeleteNodeRequest, Node
from metropolis.api.rpc_decommission import Nodes
from metropolis.api.rpc_management import Management
from metropolis.base.errors import MetropolisError
from metropolis.host.sim.directory import SimDirectory
from metropolis.node.farewell.runnable import EPITAPH
from metropolis.node.storage import FAREWELL, PLACES
from metropolis.sim.loop import simulate
from metropolis.sim.world import Machine
from sim.node.grown import Cluster, grown, parts, require

DONE = DecommissionStep.DECOMMISSION_STEP_DONE
CLIENT_S = 5.0


async def follow(cluster: Cluster, node_id: str, *, force: bool = False) -> None:
    """Ask for it, and again when the answer breaks off, as `metroctl` does."""

    async def attempt() -> None:
        request = DecommissionRequest(id=node_id, force=force)
        step = None
        async with cluster.channel.open(Nodes.DECOMMISSION, timeout_s=CLIENT_S) as stream:
            await stream.send(request)
            await stream.end()
            while (progress := await stream.receive()) is not None:
                step = progress.step
        require(step == DONE)

    while True:
        try:
            await attempt()
        except MetropolisError:
            await asyncio.sleep(1.0)
        else:
            return


async def epitaph(machine: Machine) -> None:
    while not any(EPITAPH in line for line in machine.log):  # noqa: ASYNC110  # a log tells nobody
        await asyncio.sleep(0.1)


async def places_left(machine: Machine) -> set[str]:
    """Paths of the storage that still exist."""
    storage = SimDirectory(machine.host.disk, mount_point="/looked/at")
    return {place.path for place in PLACES if await storage.exists(place.path)}


@pytest.mark.parametrize("goes", [0, 1, 2])
def test_a_decommissioned_node_is_wiped_and_does_not_come_back(goes: int) -> None:
    """Number 0 has founded the cluster and leads it."""

    async def scenario() -> None:
        async with grown(machines=3, voters=3) as cluster:
            gone = cluster.world.machines[goes]
            node_id = await cluster.node_id(gone)
            async with asyncio.timeout(120):
                await follow(cluster, node_id)
                await epitaph(gone)
            assert parts(gone) == set()
            assert await places_left(gone) == {FAREWELL.path}
            (record,) = [node for node in await cluster.nodes() if node.id == node_id]
            assert record.state == NODE_STATE_DECOMMISSIONED
            assert len(cluster.world.consensus.cluster.roster.voters()) == 2
            await gone.stop()
            gone.log.clear()
            gone.boot()
            async with asyncio.timeout(30):
                await epitaph(gone)
            await asyncio.sleep(20)
            assert parts(gone) == set()
            assert len(await cluster.nodes()) == 3
            await cluster.channel.call(Management.DELETE_NODE, DeleteNodeRequest(id=node_id))
            assert len(await cluster.nodes()) == 2

    simulate(scenario, seed=goes)


@pytest.mark.parametrize("seed", range(12))
def test_crashes_of_everybody_at_any_time_only_delay_it(seed: int) -> None:
    async def scenario() -> None:
        async with grown(machines=3, voters=3) as cluster:
            world = cluster.world
            gone = world.machines[2]
            node_id = await cluster.node_id(gone)
            rng = world.fork_rng()
            async with asyncio.TaskGroup() as group:
                following = group.create_task(follow(cluster, node_id))
                for _ in range(4):
                    await asyncio.sleep(rng.uniform(0.0, 2.0))
                    victim = rng.choice(world.machines)
                    await victim.crash()
                    await asyncio.sleep(rng.uniform(0.5, 6.0))
                    victim.boot()
                async with asyncio.timeout(240):
                    await following
            async with asyncio.timeout(120):
                await epitaph(gone)
            assert await places_left(gone) == {FAREWELL.path}

    simulate(scenario, seed=seed)


def test_a_node_that_was_off_when_it_was_forced_out_wipes_itself_when_it_is_back() -> None:
    async def scenario() -> None:
        async with grown(machines=3, voters=3) as cluster:
            gone = cluster.world.machines[2]
            node_id = await cluster.node_id(gone)
            await gone.crash()
            await asyncio.sleep(20)
            with pytest.raises(MetropolisError, match="cannot be reached"):
                await cluster.channel.call(
                    Management.DECOMMISSION_NODE, DecommissionNodeRequest(id=node_id)
                )
            async with asyncio.timeout(120):
                await follow(cluster, node_id, force=True)
            gone.boot()
            async with asyncio.timeout(60):
                await epitaph(gone)
            assert await places_left(gone) == {FAREWELL.path}

    simulate(scenario, seed=1)


def test_a_wiped_machine_that_is_installed_again_becomes_another_node() -> None:
    async def scenario() -> None:
        async with grown(machines=3, voters=3) as cluster:
            machine = cluster.world.machines[2]
            node_id = await cluster.node_id(machine)
            async with asyncio.timeout(120):
                await follow(cluster, node_id)
                await epitaph(machine)
            await cluster.channel.call(Management.DELETE_NODE, DeleteNodeRequest(id=node_id))
            await machine.stop()
            await cluster.install(machine)
            machine.boot()

            async def approve_newcomers() -> None:
                await cluster.approve_all()
                found = await cluster.nodes()
                require(len(found) == 3)
                require(all(node.health == Node.HEALTH_HEALTHY for node in found))

            await cluster.insist(approve_newcomers)
            assert await cluster.node_id(machine) != node_id
            assert FAREWELL.path not in await places_left(machine)

    simulate(scenario, seed=3)


@pytest.mark.parametrize("cut_s", [0.001, 0.01, 0.02, 0.05, 0.1, 0.3])
def test_a_power_cut_in_the_middle_of_a_wipe_is_no_way_out(cut_s: float) -> None:
    """From the moment on at which nothing can stop it any more."""

    async def scenario() -> None:
        async with grown(machines=3, voters=3) as cluster:
            machine = cluster.world.machines[2]
            machine.host.disk.latency_s = (0.004, 0.008)
            node_id = await cluster.node_id(machine)
            async with asyncio.TaskGroup() as group:
                group.create_task(follow(cluster, node_id))
                async with asyncio.timeout(60):
                    while not any("about to be wiped" in each for each in machine.log):  # noqa: ASYNC110
                        await asyncio.sleep(0.001)
                await asyncio.sleep(cut_s)
                await machine.crash()
                await asyncio.sleep(5)
                machine.log.clear()
                machine.boot()
                async with asyncio.timeout(60):
                    await epitaph(machine)
            assert not any("joining it again" in line for line in machine.log)
            assert await places_left(machine) == {FAREWELL.path}

    simulate(scenario, seed=4)
