# SPDX-License-Identifier: Apache-2.0
"""The list of refused peers on disk follows the store's, through restarts and damage."""

import asyncio
import contextlib
import functools
from random import Random
from typing import Self

from metropolis.consensus.member.crl import refresh_crl
from metropolis.consensus.member.files import MemberFiles
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.memory.client import MemoryMembership, MemoryStore
from metropolis.consensus.memory.cluster import MemoryCluster
from metropolis.consensus.store import Put
from metropolis.host import Directory
from metropolis.host.sim.clock import SimClock
from metropolis.host.sim.entropy import SimEntropy
from metropolis.host.sim.machine import SimHost
from metropolis.pki import certificates
from metropolis.pki.keys import generate_key
from metropolis.sim import simulate
from metropolis.supervision import LogTree, Supervisor, Value

KEY = b"pki/CA-crl.der"


def crl(*revoked: int) -> bytes:
    authority = certificates.issue_etcd_ca(generate_key(SimEntropy(1)), serial=1)
    return certificates.build_crl(authority, revoked, number=len(revoked) + 1)


class World:
    def __init__(self) -> None:
        self.storage: Directory = SimHost("n", rng=Random(1), addresses=["10.0.0.1"]).boot().storage
        self.cluster = MemoryCluster()
        member_id = self.cluster.bootstrap(name="n", peer_url="https://n:7834")
        self.member_id = member_id
        self.store = MemoryStore(self.cluster, member_id)
        self.present = ConsensusStatus(
            store=self.store,
            membership=MemoryMembership(self.cluster, member_id),
            member_id=member_id,
        )
        self.status: Value[ConsensusStatus | None] = Value(None)
        files = MemberFiles(self.storage, root="etcd")
        self.supervisor = Supervisor(
            functools.partial(refresh_crl, status=self.status, key=KEY, files=files),
            log_tree=LogTree(clock=SimClock()),
            clock=SimClock(),
            rng=Random(1),
        )

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.supervisor.run())
        await asyncio.sleep(5)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def put(self, value: bytes, *, key: bytes = KEY) -> None:
        await self.store.transact([], [Put(key, value)])
        await asyncio.sleep(3)

    async def on_disk(self) -> bytes:
        return await self.storage.read("etcd/peer_crl")


def test_the_list_on_disk_follows_the_store_also_over_an_absence_of_the_member() -> None:
    async def scenario() -> None:
        async with World() as world:
            await world.put(crl())
            assert not await world.storage.exists("etcd/peer_crl")
            world.status.set(world.present)
            await asyncio.sleep(3)
            assert await world.on_disk() == crl()
            await world.put(crl(5))
            assert await world.on_disk() == crl(5)
            await world.put(crl(5, 6), key=KEY + b"-of-another")
            assert await world.on_disk() == crl(5)
            world.cluster.disconnect_watches()
            await world.put(crl(5, 6))
            assert await world.on_disk() == crl(5, 6)

    simulate(scenario, seed=1)


def test_damage_in_the_store_does_not_reach_the_disk_and_its_repair_does() -> None:
    async def scenario() -> None:
        async with World() as world:
            world.status.set(world.present)
            await world.put(crl(5))
            await world.put(b"no CRL at all")
            assert await world.on_disk() == crl(5)
            assert "damaged" in (world.supervisor.states()["root"].last_error or "")
            await world.put(crl(5, 6))
            await asyncio.sleep(120)
            assert await world.on_disk() == crl(5, 6)

    simulate(scenario, seed=1)
