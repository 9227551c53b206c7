# SPDX-License-Identifier: Apache-2.0
"""Lost majorities and lost clusters, on simulated machines that are killed at any moment."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

import pytest
from google.protobuf.message import Message

from metropolis.api import backup_pb2 as wire
from metropolis.api.audit_pb2 import GetHeadRequest, ListRequest, Record
from metropolis.api.configuration_pb2 import NodeParameters
from metropolis.api.methods import Method
from metropolis.api.rpc_audit import Audit
from metropolis.api.rpc_backup import Backup, QuorumRecovery
from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    MetropolisError,
    PermissionDeniedError,
)
from metropolis.base.ports import CURATOR_TCP_PORT, NODE_MANAGEMENT_TCP_PORT
from metropolis.cluster.backup.content import Content, plain_archive
from metropolis.cluster.backup.rehearsal import read_backup
from metropolis.formats.audit.chain import decode
from metropolis.formats.audit.verification import verify
from metropolis.formats.backup.file import BackupReader
from metropolis.formats.backup.sealing import public_key_of
from metropolis.host.sim.directory import SimDirectory
from metropolis.host.sim.entropy import SimEntropy
from metropolis.node.enrolment.restoration import read_restoration, require_restoration
from metropolis.node.identity import read_identity, read_sealed_configuration
from metropolis.node.sealing.sealer import Sealer
from metropolis.node.storage import RESTORE, NodeStorage
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import server_verifier
from metropolis.rpc.channel import Channel
from metropolis.rpc.resolver import ClusterChannel
from metropolis.rpc.transport import Endpoint
from metropolis.sim.life import install
from metropolis.sim.loop import simulate
from metropolis.sim.node_program import metropolis_node
from metropolis.sim.operator import Operator, retry
from metropolis.sim.world import Machine, World, make_world
from sim.node.grown import Cluster, grown

Req = TypeVar("Req", bound=Message)
RECOVERY = b"\x07" * 32


def dial(cluster: Cluster, machine: Machine, credentials: Credentials | None = None) -> Channel:
    return cluster.world.operator_transport().dial(
        Endpoint(machine.address, NODE_MANAGEMENT_TCP_PORT),
        credentials=credentials or cluster.operator.credentials,
        verify=server_verifier(cluster.operator.ca),
    )


async def credentials_of(machine: Machine) -> Credentials:
    sealer: Sealer | None = None
    if machine.tpm is not None:
        machine.tpm.start()  # as after a start of the machine, when nothing is locked yet
        sealer = Sealer(machine.tpm, SimEntropy(1))
    storage = NodeStorage(SimDirectory(machine.host.disk, mount_point="/disk"), sealer)
    sealed = await read_sealed_configuration(storage)
    assert sealed is not None
    return (await read_identity(storage, sealed)).credentials


async def recover(channel: Channel, node_id: str) -> wire.RecoverQuorumResponse:
    request = wire.RecoverQuorumRequest(node_id=node_id)
    return await channel.call(QuorumRecovery.RECOVER_QUORUM, request, timeout_s=90)


async def label(cluster: Cluster, node_id: str, key: str) -> None:
    await cluster.insist(lambda: cluster.operator.label(cluster.channel, node_id, key, "yes"))


async def set_role(cluster: Cluster, node_id: str, *, is_member: bool) -> None:
    await cluster.insist(
        lambda: cluster.operator.set_consensus(cluster.channel, node_id, is_member=is_member)
    )


async def check_that_the_log_tells_of_it(cluster: Cluster, node_id: str) -> None:
    """Find who has declared the majority lost."""
    told = await verified_log(cluster.channel)
    (found,) = [each for each in told if each.method == "QuorumRecovery.RecoverQuorum"]
    assert (found.actor.identity, found.object) == ("owner", node_id)


async def verified_log(channel: Channel) -> list[Record]:
    """Read the whole audit log and verify it."""
    end = (await channel.call(Audit.GET_HEAD, GetHeadRequest())).head
    stored: list[tuple[int, bytes]] = []
    async with channel.open(Audit.LIST) as stream:
        await stream.send(ListRequest())
        await stream.end()
        while (response := await stream.receive()) is not None:
            stored.append((response.sequence, response.record))
    assert verify([each for each in stored if each[0] <= end.sequence], end=end).broken is None
    return [decode(record) for _, record in stored]


@pytest.mark.parametrize("is_restarted", [False, True])
def test_one_of_three_goes_on_alone_and_others_join_it_again(*, is_restarted: bool) -> None:
    async def scenario() -> None:
        async with grown(machines=4, voters=3) as cluster:
            first, second, last, other = cluster.world.machines
            ids = [await cluster.node_id(machine) for machine in cluster.world.machines]
            await label(cluster, ids[2], "before")
            await asyncio.sleep(1)  # until the last member has heard of it
            await first.crash()
            await second.crash()
            if is_restarted:
                await last.crash()
                last.boot()
            channel = dial(cluster, last)
            found = await retry(
                lambda: channel.call(QuorumRecovery.INSPECT_QUORUM, wire.InspectQuorumRequest()),
                within_s=60,
                rng=cluster.world.rng,
            )
            assert (found.node_id, found.has_quorum) == (ids[2], False)
            assert bool(found.error) is is_restarted
            assert (await recover(channel, ids[2])).revision > 0
            await channel.close()
            await label(cluster, ids[2], "after")
            await check_that_the_log_tells_of_it(cluster, ids[2])
            await cluster.set_consensus(other, is_member=True)
            nodes = {node.id: node for node in await cluster.nodes()}
            assert set(nodes) == set(ids)
            assert {pair.key for pair in nodes[ids[2]].labels.pairs} >= {"before", "after"}
            async with asyncio.timeout(120):
                while len(cluster.world.consensus.cluster.roster.voters()) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(1)
            await last.crash()  # and alone no second time: the others would be thrown out
            last.boot()
            await label(cluster, ids[2], "again")
            assert len(cluster.world.consensus.cluster.roster.voters()) == 2

    simulate(scenario, seed=1)


def test_lost_members_that_come_back_lose_their_role_and_can_get_it_again() -> None:
    async def scenario() -> None:
        async with grown(machines=3, voters=3) as cluster:
            first, second, last = cluster.world.machines
            ids = [await cluster.node_id(machine) for machine in cluster.world.machines]
            await first.crash()
            await second.crash()
            channel = dial(cluster, last)
            await recover(channel, ids[2])
            await channel.close()
            first.boot()
            second.boot()
            roster = cluster.world.consensus.cluster.roster
            for node_id in ids[:2]:
                await set_role(cluster, node_id, is_member=False)
            for voters, node_id in ((2, ids[0]), (3, ids[1])):
                await set_role(cluster, node_id, is_member=True)
                async with asyncio.timeout(120):
                    while len(roster.voters()) < voters:  # noqa: ASYNC110
                        await asyncio.sleep(1)
            await label(cluster, ids[0], "again")

    simulate(scenario, seed=1)


def test_a_living_majority_a_wrong_node_and_a_stranger_are_refused() -> None:
    async def scenario() -> None:
        async with grown(machines=3, voters=3) as cluster:
            first, second, last = cluster.world.machines
            ids = [await cluster.node_id(machine) for machine in cluster.world.machines]
            channel = dial(cluster, last)
            with pytest.raises(FailedPreconditionError, match="nothing to recover"):
                await recover(channel, ids[2])
            with pytest.raises(InvalidArgumentError, match="this is node"):
                await recover(channel, ids[1])
            stranger = dial(cluster, last, await credentials_of(first))
            await first.crash()
            await second.crash()
            with pytest.raises(PermissionDeniedError):
                await recover(stranger, ids[2])
            for each in (channel, stranger):
                await each.close()

    simulate(scenario, seed=1)


def test_a_node_that_is_no_member_recovers_nothing() -> None:
    async def scenario() -> None:
        async with grown(machines=2, voters=1) as cluster:
            first, worker = cluster.world.machines
            node_id = await cluster.node_id(worker)
            await first.crash()
            channel = dial(cluster, worker)
            with pytest.raises(FailedPreconditionError, match="no member"):
                await recover(channel, node_id)
            await channel.close()

    simulate(scenario, seed=1)


async def pieces_of(
    channel: Channel, method: Method[Req, wire.BackupChunk], request: Req
) -> AsyncIterator[bytes]:
    """Receive a backup."""
    async with channel.open(method, timeout_s=60) as stream:
        await stream.send(request)
        await stream.end()
        while (chunk := await stream.receive()) is not None:
            yield chunk.data


async def back_up(cluster: Cluster) -> Content:
    channel = cluster.channel
    key = wire.SetRecoveryKeyRequest(recovery_public_key=public_key_of(RECOVERY))
    await channel.call(Backup.SET_RECOVERY_KEY, key)

    pieces = pieces_of(channel, Backup.CREATE_BACKUP, wire.CreateBackupRequest())
    return await read_backup(pieces, BackupReader(private_key=RECOVERY))


def put_restore_file(machine: Machine, content: Content) -> None:
    parameters = NodeParameters(
        cluster_bootstrap=NodeParameters.ClusterBootstrap(
            owner_public_key=content.owner_public_key,
            initial_cluster_configuration=content.configuration,
        )
    )
    install(machine, parameters)
    restoring = wire.RestoreFile(archive=plain_archive(content), known_generation=41)
    machine.host.disk.put(RESTORE.path, restoring.SerializeToString(), RESTORE.mode)


async def came_back(world: World, owner: Operator) -> list[str]:
    """List the nodes with the owner's credentials of before."""
    async with ClusterChannel(
        world.operator_transport(),
        [Endpoint(machine.address, CURATOR_TCP_PORT) for machine in world.machines],
        credentials=owner.credentials,
        verify=server_verifier(owner.ca),
        rng=world.fork_rng(),
        follows_members=False,
    ) as channel:
        nodes = await retry(lambda: owner.nodes(channel), within_s=120, rng=world.rng)
        listed = await retry(
            lambda: channel.call(Backup.LIST_BACKUPS, wire.ListBackupsRequest()),
            within_s=60,
            rng=world.rng,
        )
        assert listed.newest_generation == 41
        await asyncio.sleep(2)  # the leader writes it down when it leads
        told = await retry(lambda: verified_log(channel), within_s=60, rng=world.rng)
        assert [each.method for each in told].count("Backup.Restore") == 1
    return [node.id for node in nodes]


@pytest.mark.parametrize("seed", range(10))
def test_a_cluster_comes_back_although_its_first_node_is_killed_again_and_again(seed: int) -> None:
    async def scenario() -> None:
        async with grown(machines=3, voters=3) as cluster:
            old_ids = [await cluster.node_id(machine) for machine in cluster.world.machines]
            content = await back_up(cluster)
            owner = cluster.operator
            dead = await credentials_of(cluster.world.machines[1])
        async with make_world(seed=1000 + seed, machine_count=1, program=metropolis_node) as world:
            (machine,) = world.machines
            put_restore_file(machine, content)
            machine.host.disk.latency_s = (0.001, 0.02)  # so that there is something to cut off
            for _ in range(world.rng.randrange(6)):
                machine.boot()
                await asyncio.sleep(0.4 * world.rng.random() ** 2)
                await machine.crash()
            machine.boot()
            (new_id,) = await came_back(world, owner)
            assert new_id not in old_ids
            assert not machine.host.disk.has(RESTORE.path)
            channel = world.operator_transport().dial(
                Endpoint(machine.address, CURATOR_TCP_PORT),
                credentials=dead,
                verify=server_verifier(owner.ca),
            )
            with pytest.raises(MetropolisError, match="not admitted any more"):
                await channel.call(Backup.LIST_BACKUPS, wire.ListBackupsRequest())
            await channel.close()

    simulate(scenario, seed=seed)


def test_another_restore_file_than_the_node_began_with_is_refused() -> None:
    async def scenario() -> None:
        async with grown(machines=1, voters=1) as cluster:
            content = await back_up(cluster)
        async with make_world(seed=2, machine_count=1, program=metropolis_node) as world:
            (machine,) = world.machines
            put_restore_file(machine, content)
            storage = NodeStorage(SimDirectory(machine.host.disk, mount_point="/disk"))
            began_with = await read_restoration(storage)
            assert began_with is not None
            same = await require_restoration(storage, began_with.digest)
            assert same.digest == began_with.digest
            other = wire.RestoreFile(archive=plain_archive(content), known_generation=42)
            machine.host.disk.put(RESTORE.path, other.SerializeToString(), RESTORE.mode)
            with pytest.raises(FailedPreconditionError, match="taken away or replaced"):
                await require_restoration(storage, began_with.digest)
            machine.host.disk.remove(RESTORE.path)
            with pytest.raises(FailedPreconditionError, match="taken away or replaced"):
                await require_restoration(storage, began_with.digest)

    simulate(scenario, seed=1)


def test_a_damaged_restore_file_founds_no_cluster() -> None:
    async def scenario() -> None:
        async with grown(machines=1, voters=1) as cluster:
            content = await back_up(cluster)
        async with make_world(seed=1, machine_count=1, program=metropolis_node) as world:
            (machine,) = world.machines
            put_restore_file(machine, content)
            damaged = bytearray(machine.host.disk.read(RESTORE.path))
            damaged[len(damaged) // 2] ^= 1
            machine.host.disk.put(RESTORE.path, bytes(damaged), RESTORE.mode)
            machine.boot()
            await asyncio.sleep(30)
            assert world.consensus.founded == 0
            assert any("damaged" in line for line in machine.log)

    simulate(scenario, seed=1)
