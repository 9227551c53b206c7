# SPDX-License-Identifier: Apache-2.0
"""Years go by: certificates end, tickets and keys are replaced under load, nodes were off for long.

Who comes back after two years is taken back, unless the cluster has decided otherwise meanwhile:
that is the whole policy, because nodes' certificates end by revocation, not by a date.
"""

import asyncio
import itertools
from random import Random

import pytest

from metropolis.api import decommission_pb2, users_pb2
from metropolis.api.management_pb2 import Node
from metropolis.api.rpc_decommission import Nodes
from metropolis.api.rpc_users import Users
from metropolis.base.errors import UnauthenticatedError
from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.consensus.memory.client import MemoryStore
from metropolis.host.sim.entropy import SimEntropy
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import server_verifier
from metropolis.pki.keys import generate_key, raw_public_key
from metropolis.pki.rotation import sign_rotation
from metropolis.rpc.resolver import ClusterChannel
from metropolis.rpc.transport import Endpoint
from metropolis.sim.loop import simulate
from metropolis.sim.world import Machine
from sim.node.grown import Cluster, grown, runs_a_member
from sim.node.test_deletion import noticed
from sim.node.test_scenarios import WRITE_EVERY_S, leader_of, reached, votes, written
from sim.node.test_users import dialled, log_in

YEARS_S = 2 * 365.25 * 86_400
SETTLED_S = 60.0
ROTATIONS = 10


async def let_years_pass(cluster: Cluster) -> None:
    """Two years by every clock, of machines that are off, too; the store forgets its history."""
    for machine in cluster.world.machines:
        machine.host.clock.step(YEARS_S)
    model = cluster.world.consensus.cluster
    (member_id,) = cluster.world.consensus.members_on(leader_of(cluster).address)
    await MemoryStore(model, member_id).compact(model.keyspace.revision)
    await asyncio.sleep(SETTLED_S)


async def who_am_i(cluster: Cluster, credentials: Credentials) -> str:
    async with dialled(cluster, leader_of(cluster), credentials, CURATOR_TCP_PORT) as channel:
        return (await channel.call(Users.WHO_AM_I, users_pb2.WhoAmIRequest())).name


async def replace_ticket(cluster: Cluster) -> bytes:
    request = decommission_pb2.RotateRegisterTicketRequest()
    return (await cluster.channel.call(Nodes.ROTATE_REGISTER_TICKET, request)).ticket


async def wait_all_healthy(cluster: Cluster, count: int) -> None:
    async with asyncio.timeout(2 * SETTLED_S):
        while True:
            nodes = await cluster.nodes()
            if [node.health for node in nodes] == [Node.HEALTH_HEALTHY] * count:
                return
            await asyncio.sleep(1)


def a_member_that_follows(cluster: Cluster) -> Machine:
    leader = leader_of(cluster)
    return next(machine for machine in cluster.world.machines[:3] if machine is not leader)


def test_who_was_off_for_two_years_is_the_node_it_was() -> None:
    async def scenario() -> None:
        async with grown(machines=4, voters=3) as cluster, written(cluster) as labels:
            member, worker = a_member_that_follows(cluster), cluster.world.machines[3]
            ids = {node.id for node in await cluster.nodes()}
            ann = await log_in(cluster, "ann", roles=["operator"])
            for machine in (member, worker):
                await machine.crash()
            await replace_ticket(cluster)
            await let_years_pass(cluster)
            assert await who_am_i(cluster, cluster.operator.credentials) == "owner"
            with pytest.raises(UnauthenticatedError, match="expired"):
                await who_am_i(cluster, ann)
            bob = await log_in(cluster, "bob", roles=["operator"])
            assert await who_am_i(cluster, bob) == "bob"
            before = labels.count
            for machine in (member, worker):
                machine.boot()
            await wait_all_healthy(cluster, 4)
            assert {node.id for node in await cluster.nodes()} == ids
            assert votes(cluster) == 3
            assert runs_a_member(member)
            await reached(lambda: labels.count > before)
            await leader_of(cluster).crash()  # its vote counts, and it has what it missed
            before = labels.count
            await reached(lambda: labels.count > before)

    simulate(scenario, seed=1)


@pytest.mark.parametrize("is_deleted", [False, True], ids=["its role is another's", "deleted"])
def test_what_was_decided_in_two_years_holds_for_who_was_off(*, is_deleted: bool) -> None:
    async def scenario() -> None:
        async with grown(machines=4, voters=3) as cluster, written(cluster):
            away, other = a_member_that_follows(cluster), cluster.world.machines[3]
            await away.crash()
            await asyncio.sleep(SETTLED_S)
            if is_deleted:
                await cluster.delete(away)
            else:
                await cluster.set_consensus(away, is_member=False)
            await cluster.set_consensus(other, is_member=True)
            await reached(lambda: votes(cluster) == 3)
            await let_years_pass(cluster)
            away.log.clear()
            away.boot()
            if is_deleted:
                await noticed(away)
                assert len(await cluster.nodes()) == 3
            else:
                await wait_all_healthy(cluster, 4)
            assert not runs_a_member(away)
            assert votes(cluster) == 3

    simulate(scenario, seed=1)


@pytest.mark.parametrize("seed", range(3))
def test_tickets_and_the_owners_key_are_replaced_while_users_write(seed: int) -> None:
    async def scenario() -> None:
        async with grown(machines=3, voters=3) as cluster:
            ann = await log_in(cluster, "ann", roles=["operator"])
            node_id = await cluster.node_id(cluster.world.machines[0])
            written_s: list[float] = []

            async def write(channel: ClusterChannel) -> None:
                while True:
                    number = str(len(written_s))
                    await cluster.operator.label(channel, node_id, "ann", number)
                    written_s.append(asyncio.get_running_loop().time())
                    await asyncio.sleep(WRITE_EVERY_S)

            async with (
                ClusterChannel(
                    cluster.world.operator_transport(),
                    [Endpoint(each.address, CURATOR_TCP_PORT) for each in cluster.world.machines],
                    credentials=ann,
                    verify=server_verifier(cluster.operator.ca),
                    rng=Random(seed),
                ) as channel,
                asyncio.TaskGroup() as tasks,
            ):
                writing = tasks.create_task(write(channel))
                tickets = [await replace_ticket(cluster) for _ in range(ROTATIONS)]
                assert len(set(tickets)) == ROTATIONS
                new = generate_key(SimEntropy(seed))
                old = raw_public_key(cluster.operator.credentials.key)
                request = users_pb2.RotateOwnerKeyRequest(
                    new_public_key=raw_public_key(new),
                    signature=sign_rotation(new, ca=cluster.operator.ca, old_public_key=old),
                )
                answer = await cluster.channel.call(Users.ROTATE_OWNER_KEY, request)
                await asyncio.sleep(SETTLED_S)
                writing.cancel()
            waits = [after - before for before, after in itertools.pairwise(written_s)]
            assert max(waits) < 3 * WRITE_EVERY_S, "a write had to wait"
            assert len(written_s) > SETTLED_S
            with pytest.raises(UnauthenticatedError):
                await who_am_i(cluster, cluster.operator.credentials)
            owner = Credentials(certificate=answer.certificate, key=new)
            assert await who_am_i(cluster, owner) == "owner"

    simulate(scenario, seed=seed)
