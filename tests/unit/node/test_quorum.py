# SPDX-License-Identifier: Apache-2.0
"""Who may declare a majority lost: the owner whose key the member's own store names."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from metropolis.api import backup_pb2 as wire
from metropolis.api.audit_pb2 import OUTCOME_DONE
from metropolis.api.common_pb2 import NodeRoles
from metropolis.api.storage_pb2 import InitialOwner
from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
)
from metropolis.base.ids import node_id_from_public_key
from metropolis.cluster.state import keys
from metropolis.cluster.unrecorded import Notes
from metropolis.consensus.member.files import MemberFiles
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.memory.client import MemoryMembership, MemoryStore
from metropolis.consensus.memory.cluster import MemoryCluster
from metropolis.consensus.store import Put
from metropolis.host.sim.clock import SimClock
from metropolis.host.sim.entropy import SimEntropy
from metropolis.host.sim.machine import SimHost
from metropolis.node.intent import ConsensusIntent
from metropolis.node.management.quorum import QuorumEdges, QuorumService
from metropolis.node.storage import ETCD, UNRECORDED
from metropolis.pki.keys import generate_key, raw_public_key
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.sim import simulate
from metropolis.supervision import LogTree, Value

KEY = generate_key(SimEntropy(1))
NODE_ID = node_id_from_public_key(raw_public_key(KEY))
OWNER_KEY, OLD_KEY = b"\x0e" * 32, b"\x0f" * 32
OWNER = Peer(kind=PeerKind.USER, identity="owner", public_key=OWNER_KEY)


class Node:
    """A member whose two companions are lost, and what its service is given."""

    def __init__(self) -> None:
        cluster = MemoryCluster()
        self.cluster = cluster
        self.member_id = cluster.bootstrap(name=NODE_ID, peer_url=f"https://{NODE_ID}:7834")
        self.store = MemoryStore(cluster, self.member_id)
        self.storage = SimHost("n1", rng=Random(1), addresses=["10.0.0.1"]).boot().storage
        intent = ConsensusIntent(
            node_id=NODE_ID, founds=False, role=NodeRoles.ConsensusMember(), key=KEY
        )
        self.edges = QuorumEdges(
            storage=self.storage,
            intent=Value(intent),
            consensus=Value(self.status()),
            introduced=Value({}),
            clock=SimClock(),
        )
        log = LogTree(clock=SimClock()).leveled("nodemgmt")
        self.service = QuorumService(self.edges, log, NODE_ID)

    def status(self) -> ConsensusStatus:
        return ConsensusStatus(
            store=self.store,
            membership=MemoryMembership(self.cluster, self.member_id),
            member_id=self.member_id,
        )

    async def lose_the_majority(self) -> None:
        owner = InitialOwner(public_key=OWNER_KEY)
        await self.store.transact([], [Put(keys.INITIAL_OWNER, owner.SerializeToString())])
        for name in ("two", "three"):
            self.cluster.roster.add(f"https://{name}:7834", is_learner=False)
        self.cluster.reconsider()

    async def recover(self, peer: Peer) -> wire.RecoverQuorumResponse:
        return await self.service.recover_quorum(wire.RecoverQuorumRequest(node_id=NODE_ID), peer)

    async def is_ordered(self) -> bool:
        return await MemberFiles(self.storage, root=ETCD.path).is_to_be_alone()


def play(scenario: Callable[[Node], Awaitable[None]]) -> None:
    async def main() -> None:
        node = Node()
        await node.lose_the_majority()
        await scenario(node)

    simulate(main, seed=1)


@pytest.mark.parametrize(
    "peer",
    [
        Peer(kind=PeerKind.USER, identity="owner", public_key=OLD_KEY),
        Peer(kind=PeerKind.USER, identity="ann", public_key=OWNER_KEY),
        Peer(kind=PeerKind.NODE, identity="owner", public_key=OWNER_KEY),
        Peer(kind=PeerKind.USER, identity="owner"),
    ],
    ids=["an owner of before", "another user", "a node", "no key"],
)
def test_nobody_but_the_present_owner_is_admitted(peer: Peer) -> None:
    async def scenario(node: Node) -> None:
        with pytest.raises(PermissionDeniedError):
            await node.recover(peer)
        with pytest.raises(PermissionDeniedError):
            await node.service.inspect_quorum(wire.InspectQuorumRequest(), peer)
        assert not await node.is_ordered()

    play(scenario)


def test_only_the_owner_says_where_nodes_are_and_only_with_addresses() -> None:
    async def scenario(node: Node) -> None:
        request = wire.IntroduceNodesRequest()
        assert (await node.service.introduce_nodes(request, OWNER)).node_id == NODE_ID
        assert node.edges.introduced.current == {}
        request.nodes.add(id=NODE_ID, host="10.0.0.7")
        with pytest.raises(PermissionDeniedError):
            await node.service.introduce_nodes(
                request, Peer(kind=PeerKind.USER, identity="owner", public_key=OLD_KEY)
            )
        await node.service.introduce_nodes(request, OWNER)
        assert node.edges.introduced.current == {NODE_ID: "10.0.0.7"}
        request.nodes.add(id=NODE_ID, host="somewhere")
        with pytest.raises(InvalidArgumentError):
            await node.service.introduce_nodes(request, OWNER)

    play(scenario)


def test_the_order_is_on_the_disk_before_the_member_is_restarted() -> None:
    async def scenario(node: Node) -> None:
        recovering = asyncio.get_running_loop().create_task(node.recover(OWNER))
        intent = await node.edges.intent.wait_for(lambda now: now is not None and now.attempt == 1)
        assert intent is not None
        assert await node.is_ordered()
        (noted,) = await Notes(node.storage, UNRECORDED.path).records()
        assert (noted.actor.identity, noted.object) == ("owner", NODE_ID)
        assert (noted.method, noted.outcome) == ("QuorumRecovery.RecoverQuorum", OUTCOME_DONE)
        node.edges.consensus.set(None)
        node.cluster.force_new(node.member_id)
        node.edges.consensus.set(node.status())
        assert (await recovering).revision == node.cluster.keyspace.revision

    play(scenario)


def test_a_member_that_is_just_starting_is_waited_for() -> None:
    async def scenario(node: Node) -> None:
        node.edges.consensus.set(None)
        for state in node.cluster.roster:
            if state.member_id != node.member_id:
                node.cluster.start_member(state.member_id, name="back")
        recovering = asyncio.get_running_loop().create_task(node.recover(OWNER))
        await asyncio.sleep(3)
        node.edges.consensus.set(node.status())
        with pytest.raises(FailedPreconditionError, match="nothing to recover"):
            await recovering
        assert not await node.is_ordered()

    play(scenario)


def test_without_a_majority_the_member_still_says_what_it_knows() -> None:
    async def scenario(node: Node) -> None:
        found = await node.service.inspect_quorum(wire.InspectQuorumRequest(), OWNER)
        assert (found.node_id, found.has_quorum, found.error) == (NODE_ID, False, "")
        assert found.revision == node.cluster.keyspace.revision
        node.edges.consensus.set(None)
        found = await node.service.inspect_quorum(wire.InspectQuorumRequest(), OWNER)
        assert found.error

    play(scenario)
