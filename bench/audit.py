# SPDX-License-Identifier: Apache-2.0
"""What a change costs the leader with its audit record, and without; on the store in memory."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext

from metropolis.api.audit_pb2 import Head, Record
from metropolis.api.common_pb2 import NODE_TPM_USAGE_NOT_PRESENT
from metropolis.api.management_pb2 import UpdateNodeLabelsRequest
from metropolis.api.rpc_management import Management
from metropolis.base.ids import NodeId, node_id_from_public_key
from metropolis.cluster.cache import NodeCache
from metropolis.cluster.leader import Leader, Surroundings
from metropolis.cluster.planner.audit import RECORDS_MAX, grow
from metropolis.cluster.planner.reconfigure import default_configuration
from metropolis.cluster.services.management import update_node_labels
from metropolis.cluster.state import keys
from metropolis.cluster.state.bootstrap import BootstrapRequest, bootstrap_cluster
from metropolis.consensus.member.start import peer_url
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.memory.client import MemoryMembership, MemoryStore
from metropolis.consensus.memory.cluster import MemoryCluster
from metropolis.consensus.mirror import Mirror
from metropolis.consensus.store import Compare, Put, Target
from metropolis.formats.audit.verification import verify
from metropolis.host.sim.clock import SimClock
from metropolis.host.sim.entropy import SimEntropy
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.supervision import LogTree

CHANGES = 1000
KEY = b"\x01" * 32
OWNER = Peer(kind=PeerKind.USER, identity="owner", address="10.0.0.1", public_key=b"\x0e" * 32)

Measurement = tuple[float, str, float | None]  # value, unit, target
Work = Callable[[Leader, NodeId], Awaitable[None]]


def measure() -> dict[str, Measurement]:
    """Return name -> (value, unit, target)."""
    bare_us = _cpu_us(lambda leader, node_id: _relabel(leader, node_id, is_audited=False))
    audited_us = _cpu_us(lambda leader, node_id: _relabel(leader, node_id, is_audited=True))
    return {
        "change without a record": (bare_us, "us", None),
        "change with a record": (audited_us, "us", None),
        "what the record costs": (audited_us - bare_us, "us", 1000),
        "verifying a full log": (_verify_ms(), "ms", 2000),
    }


def _cpu_us(work: Work) -> float:
    """CPU of one change; the best of three runs, for everything else is somebody else's work."""
    return min(asyncio.run(_changes(work)) for _ in range(3)) / CHANGES * 1e6


async def _relabel(leader: Leader, node_id: NodeId, *, is_audited: bool) -> None:
    for number in range(CHANGES):
        request = UpdateNodeLabelsRequest(id=node_id)
        request.upsert.add(key="number", value=str(number))
        calling = leader.auditor.calling(Management.UPDATE_NODE_LABELS, OWNER, request)
        with calling if is_audited else nullcontext():
            await update_node_labels(leader, request, OWNER)


async def _changes(work: Work) -> float:
    node_id = node_id_from_public_key(KEY)
    cluster = MemoryCluster()
    member_id = cluster.bootstrap(name=node_id, peer_url=peer_url(node_id))
    store = MemoryStore(cluster, member_id)
    status = ConsensusStatus(
        store=store, membership=MemoryMembership(cluster, member_id), member_id=member_id
    )
    entropy = SimEntropy(0)
    born = await bootstrap_cluster(
        store,
        BootstrapRequest(
            node_public_key=KEY,
            join_public_key=b"\x02" * 32,
            owner_public_key=b"\x0e" * 32,
            configuration=default_configuration(),
            tpm_usage=NODE_TPM_USAGE_NOT_PRESENT,
            cluster_unlock_key=b"\x03" * 32,
        ),
        entropy,
    )
    won = await store.transact([], [Put(keys.LEADER + b"1", b"bench")])
    clock = SimClock()
    log = LogTree(clock=clock).leveled("bench")
    nodes = NodeCache(Mirror(store, keys.NODES), log)
    surroundings = Surroundings(
        node_id=node_id,
        host="10.0.0.1",
        ca_certificate=born.ca_certificate,
        clock=clock,
        entropy=entropy,
        log=log,
    )
    fence = Compare(keys.LEADER + b"1", Target.CREATE_REVISION, won.revision)
    leader = Leader(surroundings, status, nodes, fence=fence)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(nodes.mirror.run())
        await leader.nodes.mirror.wait_revision(won.revision)
        started_s = time.process_time()
        await work(leader, node_id)
        spent_s = time.process_time() - started_s
        running.cancel()
    return spent_s


def _verify_ms() -> float:
    head = Head()
    stored: list[tuple[int, bytes]] = []
    for number in range(RECORDS_MAX):
        growth = grow(head, [Record(sentence=f"set number={number}")], (), None)
        stored.extend(growth.added)
        head = growth.head
    started_s = time.perf_counter()
    assert verify(stored, end=head).broken is None
    return (time.perf_counter() - started_s) * 1000
