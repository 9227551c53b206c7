# SPDX-License-Identifier: Apache-2.0
"""A node's key that is used from a second machine is noticed; a node that moves is not accused."""

import asyncio

import pytest

from metropolis.api.curator_pb2 import HeartbeatRequest
from metropolis.api.introspection_pb2 import ExplainNodeRequest, Finding
from metropolis.api.rpc_curator import Curator
from metropolis.api.rpc_introspection import Introspection
from metropolis.base.errors import MetropolisError, UnavailableError
from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.cluster.doubles import HOLD_S, SHOWN_S, TURNS_S, Doubles, Trait
from metropolis.host.sim.clock import SimClock
from metropolis.host.sim.directory import SimDirectory
from metropolis.node.storage import NODE_CERTIFICATE, NODE_KEY
from metropolis.pki import certificates, keys
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import insecure_verifier
from metropolis.rpc.memory.transport import MemoryTransport
from metropolis.rpc.transport import Endpoint
from metropolis.sim.loop import simulate
from metropolis.sim.world import Machine
from metropolis.supervision import LogTree
from sim.node.grown import Cluster, grown

THIEF = "10.0.9.9"
SOON_S = 30.0
ALARM = "Two machines are node"


async def stolen(machine: Machine) -> Credentials:
    """What somebody has who copied a node's disk."""
    files = SimDirectory(machine.host.disk, mount_point="/copy")
    return Credentials(
        certificate=certificates.from_pem(await files.read(NODE_CERTIFICATE.path)),
        key=keys.from_pkcs8_pem(await files.read(NODE_KEY.path)),
    )


async def beat(cluster: Cluster, credentials: Credentials, told: list[str]) -> None:
    """Be the node on a second machine: find the leader, and send it heartbeats.

    Args:
        told: Gets what the answers were.
    """
    transport = MemoryTransport(cluster.world.network, THIEF)
    while True:
        for machine in cluster.world.machines:
            channel = transport.dial(
                Endpoint(machine.address, CURATOR_TCP_PORT),
                credentials=credentials,
                verify=insecure_verifier(),
            )
            try:
                async with channel.open(Curator.HEARTBEAT) as stream:
                    while True:
                        await stream.send(HeartbeatRequest())
                        if await stream.receive() is None:
                            break
                        told.append("heard")
                        await asyncio.sleep(5)
            except MetropolisError as error:
                told.append(str(error))
            await channel.close()
        await asyncio.sleep(1)


async def findings(cluster: Cluster, node_id: str) -> list[Finding]:
    answer = await cluster.channel.call(
        Introspection.EXPLAIN_NODE, ExplainNodeRequest(node_id=node_id)
    )
    return list(answer.findings)


def alarms(cluster: Cluster) -> list[str]:
    return [line for each in cluster.world.machines for line in each.log if ALARM in line]


@pytest.mark.parametrize("victim", [0, 2])
def test_a_key_that_is_used_on_a_second_machine_is_noticed_and_explained(victim: int) -> None:
    async def scenario() -> None:
        async with grown(machines=3, voters=1) as cluster:
            machine = cluster.world.machines[victim]
            node_id = await cluster.node_id(machine)
            await asyncio.sleep(SOON_S)
            assert alarms(cluster) == []
            told: list[str] = []
            thief = asyncio.create_task(beat(cluster, await stolen(machine), told))
            await asyncio.sleep(SOON_S)
            assert f"another machine is this node, and is heard at {machine.address}" in told
            assert "heard" not in told
            assert any(node_id in line and THIEF in line for line in alarms(cluster))
            (found,) = [
                each for each in await findings(cluster, node_id) if each.code == "TWO_MACHINES"
            ]
            assert found.severity == Finding.SEVERITY_ERROR
            assert "metroctl node delete --bypass-has-roles" in found.remedy
            other = await cluster.node_id(cluster.world.machines[1])
            assert "TWO_MACHINES" not in {each.code for each in await findings(cluster, other)}
            thief.cancel()
            await asyncio.wait([thief])

    simulate(scenario, seed=1)


def test_who_came_first_is_the_node_until_it_is_silent() -> None:
    async def scenario() -> None:
        doubles = Doubles(LogTree(clock=SimClock()).leveled("root"), now_s=100.0)

        def heard(address: str, now_s: float) -> bool:
            try:
                doubles.admit("n", address, known_address="10.0.0.3", now_s=now_s)
            except UnavailableError:
                return False
            return True

        assert not heard("10.0.0.9", 100.0 + HOLD_S - 0.1)  # may be a copy: its turn comes
        assert heard("10.0.0.9", 100.0 + HOLD_S)  # it has moved while the leaders changed
        assert not heard("10.0.0.3", 110.0)
        assert doubles.alarm("n", now_s=110.0) == ""
        assert heard("10.0.0.9", 112.0)
        assert doubles.alarm("n", now_s=112.0) == "addresses 10.0.0.9 and 10.0.0.3"
        assert heard("10.0.0.3", 112.0 + HOLD_S)
        doubles.forget("n")
        assert heard("10.0.0.3", 120.0)

    simulate(scenario, seed=1)


def test_a_node_that_restarts_or_moves_is_one_machine() -> None:
    doubles = Doubles(LogTree(clock=SimClock()).leveled("root"))
    for now_s, address in enumerate(["10.0.0.3", "10.0.0.3", "10.0.0.9", "10.0.0.9"]):
        doubles.see("n", Trait.ADDRESS, address, now_s=float(now_s))
    doubles.see("n", Trait.ADDRESS, "10.0.0.3", now_s=10.0 + TURNS_S)  # back after a while
    doubles.see("n", Trait.BOOT, "first", now_s=0.0)
    doubles.see("n", Trait.BOOT, "second", now_s=1.0)
    doubles.see("m", Trait.ADDRESS, "10.0.0.4", now_s=1.0)
    assert doubles.alarm("n", now_s=10.0 + TURNS_S) == ""


def test_boot_ids_that_take_turns_give_two_machines_away_for_a_while() -> None:
    async def scenario() -> None:
        doubles = Doubles(LogTree(clock=SimClock()).leveled("root"))
        for now_s, boot in enumerate(["a", "b", "a"]):
            doubles.see("n", Trait.BOOT, boot, now_s=float(now_s))
        assert doubles.alarm("n", now_s=2.0) == "boot ids a and b"
        assert doubles.alarm("m", now_s=2.0) == ""
        assert doubles.alarm("n", now_s=2.0 + SHOWN_S) == ""
        doubles.see("n", Trait.BOOT, "b", now_s=3.0)
        doubles.forget("n")
        assert doubles.alarm("n", now_s=3.0) == ""

    simulate(scenario, seed=1)
