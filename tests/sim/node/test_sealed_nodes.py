# SPDX-License-Identifier: Apache-2.0
"""Nodes whose machine has a TPM: sealed, locked, back after a power cut, and closed to another."""

import asyncio

from metropolis.api import common_pb2
from metropolis.host.sim.directory import SimDirectory
from metropolis.node.sealing.envelope import Kind, decode
from metropolis.node.sealing.keeper import MemoryKeeper
from metropolis.node.storage import COPY_SUFFIX, SEALED_CONFIGURATION
from metropolis.sim.loop import simulate
from metropolis.sim.world import Machine
from sim.node.grown import Cluster, grown, require

CLONED = "this node's keys are sealed by another TPM"


def kinds(machine: Machine) -> set[Kind]:
    """How both copies of what a node knows before its disk is open are kept."""
    path = SEALED_CONFIGURATION.path
    texts = [machine.host.disk.read(each) for each in (path, path + COPY_SUFFIX)]
    return {decode(path, text).kind for text in texts}


async def heard(cluster: Cluster, machine: Machine) -> None:
    async def attempt() -> None:
        nodes = {node.status.external_address: node for node in await cluster.nodes()}
        require(nodes[machine.address].time_since_heartbeat.seconds < 6)

    await cluster.insist(attempt)


def test_a_node_seals_if_its_machine_has_a_tpm_and_says_what_is_true() -> None:
    async def scenario() -> None:
        async with grown(machines=6, voters=1) as cluster:
            usages = {
                node.status.external_address: node.tpm_usage for node in await cluster.nodes()
            }
            for machine in cluster.world.machines:
                if machine.tpm is None:
                    assert kinds(machine) == {Kind.PLAIN}
                    assert usages[machine.address] == common_pb2.NODE_TPM_USAGE_NOT_PRESENT
                else:
                    assert kinds(machine) == {Kind.SEALED}
                    assert usages[machine.address] == common_pb2.NODE_TPM_USAGE_PRESENT_AND_USED
                    assert machine.tpm.is_locked
            assert len({machine.tpm is None for machine in cluster.world.machines}) == 2

    simulate(scenario, seed=1)


def test_a_sealed_node_comes_back_after_a_power_cut_and_a_copy_of_its_disk_does_not() -> None:
    async def scenario() -> None:
        async with grown(machines=4, voters=3) as cluster:
            machine = next(each for each in cluster.world.machines[1:] if each.tpm is not None)
            await machine.crash()
            machine.boot()
            await heard(cluster, machine)
            await machine.crash()
            ours, machine.tpm = machine.tpm, MemoryKeeper(b"of the computer with the copy")
            machine.boot()
            async with asyncio.timeout(30):
                while not any(CLONED in line for line in machine.log):  # noqa: ASYNC110  # the log tells nobody
                    await asyncio.sleep(0.1)
            await machine.crash()
            machine.tpm = ours
            machine.boot()
            await heard(cluster, machine)

    simulate(scenario, seed=1)


def test_a_node_without_its_tpm_says_so_and_does_not_enrol_again() -> None:
    async def scenario() -> None:
        async with grown(machines=4, voters=3) as cluster:
            machine = next(each for each in cluster.world.machines[1:] if each.tpm is not None)
            before = len(await cluster.nodes())
            await machine.crash()
            machine.tpm = None
            machine.boot()
            await asyncio.sleep(60)
            said = f"{SEALED_CONFIGURATION.path} is sealed by a TPM, and this machine has none"
            assert any(said in line for line in machine.log)
            assert len(await cluster.nodes()) == before
            storage = SimDirectory(machine.host.disk, mount_point="/disk")
            assert await storage.exists(SEALED_CONFIGURATION.path)

    simulate(scenario, seed=1)
