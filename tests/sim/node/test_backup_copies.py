# SPDX-License-Identifier: Apache-2.0
"""Scheduled backups outlive the node that made them: every member has the newest on its disk."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from metropolis.api import backup_pb2 as wire
from metropolis.api.rpc_backup import Backup
from metropolis.base.ports import NODE_MANAGEMENT_TCP_PORT
from metropolis.cluster.backup.rehearsal import read_backup
from metropolis.cluster.backup.shelf import Shelf
from metropolis.formats.backup.file import BackupReader
from metropolis.formats.backup.sealing import public_key_of
from metropolis.host.sim.directory import SimDirectory
from metropolis.node.storage import BACKUPS
from metropolis.pki.identity import server_verifier
from metropolis.rpc.transport import Endpoint
from metropolis.sim.loop import simulate
from metropolis.sim.world import Machine
from sim.node.grown import Cluster, grown
from sim.node.test_disaster import pieces_of
from sim.node.test_scenarios import leader_of

RECOVERY = b"\x07" * 32
EVERY_S = 300
KEEP = 2


def shelf_of(machine: Machine) -> Shelf:
    return Shelf(SimDirectory(machine.host.disk, mount_point="/disk"), BACKUPS.path)


async def generations(machine: Machine) -> list[int]:
    return [each.header.generation for each in await shelf_of(machine).kept()]


async def schedule(cluster: Cluster) -> None:
    key = wire.SetRecoveryKeyRequest(recovery_public_key=public_key_of(RECOVERY))
    await cluster.channel.call(Backup.SET_RECOVERY_KEY, key)
    await cluster.channel.call(
        Backup.SET_SCHEDULE, wire.SetScheduleRequest(interval_s=EVERY_S, keep=KEEP)
    )


async def holders(cluster: Cluster) -> Mapping[int, Sequence[str]]:
    listed = await cluster.channel.call(Backup.LIST_BACKUPS, wire.ListBackupsRequest())
    return {each.header.generation: sorted(each.nodes) for each in listed.backups}


@pytest.mark.parametrize("seed", range(3))
def test_a_leader_that_is_lost_takes_no_backup_with_it(seed: int) -> None:
    async def scenario() -> None:
        async with grown(machines=4, voters=3) as cluster:
            members, worker = cluster.world.machines[:3], cluster.world.machines[3]
            ids = sorted([await cluster.node_id(machine) for machine in members])
            await schedule(cluster)
            await asyncio.sleep(3 * EVERY_S + 120)
            newest = (await generations(leader_of(cluster)))[0]
            assert newest > KEEP
            wanted = [newest, newest - 1]
            assert [await generations(each) for each in members] == [wanted] * 3
            assert await generations(worker) == []
            assert await holders(cluster) == dict.fromkeys(wanted, ids)

            lost = leader_of(cluster)
            lost_id = await cluster.node_id(lost)
            await lost.crash()
            await asyncio.sleep(60)
            told = await holders(cluster)
            rest = [each for each in ids if each != lost_id]
            assert {number: told[number] for number in wanted} == dict.fromkeys(wanted, rest)
            survivor = next(each for each in members if each is not lost)
            channel = cluster.world.operator_transport().dial(
                Endpoint(survivor.address, NODE_MANAGEMENT_TCP_PORT),
                credentials=cluster.operator.credentials,
                verify=server_verifier(cluster.operator.ca),
            )
            request = wire.FetchBackupRequest(generation=newest)
            pieces = pieces_of(channel, Backup.FETCH_BACKUP, request)
            content = await read_backup(pieces, BackupReader(private_key=RECOVERY))
            assert content.header.generation == newest
            await channel.close()

    simulate(scenario, seed=seed)
