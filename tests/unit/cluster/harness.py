# SPDX-License-Identifier: Apache-2.0
"""One cluster on the memory store, one leader, and handlers called without a network."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from typing import Generic, TypeVar

from google.protobuf.message import Message

from metropolis.api.common_pb2 import (
    NODE_STORAGE_SECURITY_AUTHENTICATED_ENCRYPTED,
    NODE_TPM_USAGE_PRESENT_AND_USED,
    ClusterConfiguration,
    NodeStatus,
)
from metropolis.api.curator_pb2 import (
    CommitNodeRequest,
    RegisterNodeRequest,
    UpdateNodeStatusRequest,
)
from metropolis.api.management_pb2 import (
    ApproveNodeRequest,
    DeleteNodeRequest,
    GetRegisterTicketRequest,
    Node,
    UpdateNodeRolesRequest,
)
from metropolis.api.management_pb2 import GetNodesRequest as NodesRequest
from metropolis.base.ids import NodeId, node_id_from_public_key
from metropolis.cluster.cache import NodeCache
from metropolis.cluster.leader import Leader, Surroundings
from metropolis.cluster.planner.reconfigure import default_configuration
from metropolis.cluster.services.curator import update_node_status
from metropolis.cluster.services.enrolment import commit_node, register_node
from metropolis.cluster.services.management import (
    approve_node,
    delete_node,
    get_register_ticket,
    update_node_roles,
)
from metropolis.cluster.services.nodes import get_nodes
from metropolis.cluster.state import keys
from metropolis.cluster.state.bootstrap import (
    BootstrapRequest,
    BootstrapResult,
    bootstrap_cluster,
)
from metropolis.consensus.member.start import peer_url
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.memory.client import MemoryMembership, MemoryStore
from metropolis.consensus.memory.cluster import MemoryCluster
from metropolis.consensus.memory.faults import Faults
from metropolis.consensus.mirror import Mirror
from metropolis.consensus.store import Compare, Delete, Membership, Put, Store, Target
from metropolis.host.sim.clock import SimClock
from metropolis.host.sim.entropy import SimEntropy
from metropolis.rpc.channel import Packed
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.sim.loop import simulate
from metropolis.supervision import LogTree, ReadOptions

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)

OWNER = Peer(kind=PeerKind.USER, identity="owner", public_key=b"\x0e" * 32)
OWNER_KEY = b"\x0e" * 32
LOCK = keys.LEADER + b"1"


@dataclass(slots=True, kw_only=True)
class Machine:
    """A machine that is, or may become, a node."""

    number: int
    key: bytes
    join_key: bytes
    unlock_key: bytes

    @property
    def node_id(self) -> NodeId:
        return node_id_from_public_key(self.key)

    @property
    def stranger(self) -> Peer:
        """Before it has a certificate."""
        return Peer(kind=PeerKind.EPHEMERAL, public_key=self.key)

    @property
    def joiner(self) -> Peer:
        return Peer(kind=PeerKind.EPHEMERAL, public_key=self.join_key)

    @property
    def peer(self) -> Peer:
        return Peer(kind=PeerKind.NODE, identity=self.node_id, public_key=self.key)


def machine(number: int) -> Machine:
    draw = Random(number)
    return Machine(
        number=number,
        key=draw.randbytes(32),
        join_key=draw.randbytes(32),
        unlock_key=draw.randbytes(32),
    )


FIRST = machine(1)


class Call(Generic[Req, Res]):
    """Both ends of a streaming call: the handler's, and what a test sends and sees."""

    def __init__(self, peer: Peer, *requests: Req, ends: bool = True) -> None:
        self.peer = peer
        self.sent: list[Res] = []
        self.packed: list[Packed[Res]] = []  # of those, which others may be sent, too
        self._requests: asyncio.Queue[Req | None] = asyncio.Queue()
        self._news = asyncio.Event()
        self._may_send = asyncio.Event()
        self._may_send.set()
        for request in requests:
            self._requests.put_nowait(request)
        if ends:
            self._requests.put_nowait(None)

    async def receive(self) -> Req | None:
        return await self._requests.get()

    async def send(self, message: Res) -> None:
        await self._may_send.wait()
        self.sent.append(message)
        self._news.set()

    async def send_packed(self, packed: Packed[Res]) -> None:
        self.packed.append(packed)
        await self.send(packed.message)

    def ask(self, request: Req | None) -> None:
        """Send a request as the caller; None ends."""
        self._requests.put_nowait(request)

    def hold(self) -> None:
        """Read nothing more, as a slow caller does."""
        self._may_send.clear()

    def release(self) -> None:
        """Read on."""
        self._may_send.set()

    async def wait_sent(self, count: int) -> list[Res]:
        """Wait until the handler has sent that many messages."""
        while len(self.sent) < count:
            self._news.clear()
            await self._news.wait()
        return self.sent


@dataclass(slots=True, kw_only=True)
class Bench:
    """A cluster with one member and one leader."""

    store: Store
    membership: Membership
    leader: Leader
    nodes: NodeCache
    log_tree: LogTree
    entropy: SimEntropy
    born: BootstrapResult
    group: asyncio.TaskGroup
    fence: Compare
    member_ids: dict[str, int] = field(default_factory=dict)
    cluster: MemoryCluster = field(default_factory=MemoryCluster)  # behind a memory store

    async def enrol(self, new: Machine, *, address: str = "") -> Machine:
        """Take a machine all the way to UP."""
        await self.register(new)
        await approve_node(self.leader, ApproveNodeRequest(pubkey=new.key), OWNER)
        await commit_node(self.leader, commit_request(new), new.stranger)
        if address:
            await self.report(new, address)
        return new

    async def register(self, new: Machine) -> None:
        request = await self.register_request(new)
        await register_node(self.leader, request, new.stranger)

    async def register_request(self, new: Machine) -> RegisterNodeRequest:
        ticket = await get_register_ticket(self.leader, GetRegisterTicketRequest(), OWNER)
        return RegisterNodeRequest(
            register_ticket=ticket.ticket, join_key=new.join_key, have_local_tpm=True
        )

    async def report(self, who: Machine, address: str) -> None:
        request = UpdateNodeStatusRequest(
            node_id=who.node_id, status=NodeStatus(external_address=address)
        )
        await update_node_status(self.leader, request, who.peer)

    async def list(self, condition: str = "") -> list[Node]:
        call: Call[NodesRequest, Node] = Call(OWNER, NodesRequest(filter=condition))
        await get_nodes(self.leader, call)
        return call.sent

    async def show(self, who: Machine) -> Node:
        (found,) = await self.list(f"node.id == '{who.node_id}'")
        return found

    async def raw(self, key: bytes) -> bytes | None:
        found = await self.store.get(key)
        return None if found is None else found.value

    async def depose(self) -> None:
        """Let another leader be elected; this one has not noticed."""
        await self.store.transact([], [Delete(LOCK)])
        await self.store.transact([], [Put(LOCK, b"another's")])

    def elsewhere(self, *, lag_s: float = 0.5) -> MemoryStore:
        """Return the store as another member's clients see it, of which ours hears late."""
        own = next(iter(self.member_ids.values()))
        other = self.cluster.roster.add("https://elsewhere:7834", is_learner=False)
        self.cluster.start_member(other.member_id, name="elsewhere")
        self.cluster.faults = Faults(
            replication_delay_s=lambda member_id: lag_s if member_id == own else 0.0
        )
        return MemoryStore(self.cluster, other.member_id)

    def start_member(self, who: Machine) -> None:
        """Let the node start the member that it was invited to be."""
        for state in self.cluster.roster:
            if state.peer_url == peer_url(who.node_id) and not state.is_running:
                self.cluster.start_member(state.member_id, name=who.node_id)

    def log_text(self) -> str:
        reader = self.log_tree.read("curator", ReadOptions(with_children=True, backlog=None))
        return "\n".join(map(str, reader.backlog))


def commit_request(new: Machine) -> CommitNodeRequest:
    return CommitNodeRequest(
        cluster_unlock_key=new.unlock_key,
        storage_security=NODE_STORAGE_SECURITY_AUTHENTICATED_ENCRYPTED,
    )


def bootstrap_request(configuration: ClusterConfiguration | None = None) -> BootstrapRequest:
    return BootstrapRequest(
        node_public_key=FIRST.key,
        join_public_key=FIRST.join_key,
        owner_public_key=OWNER_KEY,
        configuration=configuration or default_configuration(),
        tpm_usage=NODE_TPM_USAGE_PRESENT_AND_USED,
        cluster_unlock_key=FIRST.unlock_key,
    )


@asynccontextmanager
async def bench(
    *, seed: int = 0, configuration: ClusterConfiguration | None = None
) -> AsyncIterator[Bench]:
    """Make a cluster and lead it while the block runs."""
    cluster = MemoryCluster()
    member_id = cluster.bootstrap(name=FIRST.node_id, peer_url=peer_url(FIRST.node_id))
    store, membership = MemoryStore(cluster, member_id), MemoryMembership(cluster, member_id)
    status = ConsensusStatus(store=store, membership=membership, member_id=member_id)
    async with bench_on(status, seed=seed, configuration=configuration) as made:
        made.cluster = cluster
        yield made


@asynccontextmanager
async def bench_on(
    status: ConsensusStatus, *, seed: int = 0, configuration: ClusterConfiguration | None = None
) -> AsyncIterator[Bench]:
    """Make a cluster on any empty store and lead it while the block runs."""
    store = status.store
    entropy, clock = SimEntropy(seed), SimClock()
    born = await bootstrap_cluster(store, bootstrap_request(configuration), entropy)
    await store.transact([], [Put(LOCK, b"ours")])
    lock = await store.get(LOCK)
    assert lock is not None
    fence = Compare(LOCK, Target.CREATE_REVISION, lock.create_revision)
    log_tree = LogTree(clock=clock)
    nodes = NodeCache(Mirror(store, keys.NODES), log_tree.leveled("curator"))
    leader = Leader(
        Surroundings(
            node_id=FIRST.node_id,
            host="10.0.0.1",
            ca_certificate=born.ca_certificate,
            clock=clock,
            entropy=entropy,
            log=log_tree.leveled("curator"),
        ),
        status,
        nodes,
        fence=fence,
    )
    async with asyncio.TaskGroup() as group:
        running = [
            group.create_task(nodes.mirror.run()),
            group.create_task(leader.access.mirror.run()),
            group.create_task(leader.gate.run()),
        ]
        await leader.access.mirror.wait_loaded()
        yield Bench(
            store=store,
            membership=status.membership,
            leader=leader,
            nodes=nodes,
            log_tree=log_tree,
            entropy=entropy,
            born=born,
            group=group,
            fence=fence,
            member_ids={FIRST.node_id: status.member_id},
        )
        for task in running:
            task.cancel()


def run(
    scenario: Callable[[Bench], Awaitable[None]],
    *,
    seed: int = 0,
    configuration: ClusterConfiguration | None = None,
) -> None:
    """Run a scenario on a bench, in virtual time."""

    async def main() -> None:
        async with bench(seed=seed, configuration=configuration) as made:
            await scenario(made)

    simulate(main, seed=seed)


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def set_roles(bench: Bench, who: Machine, **roles: bool) -> None:
    request = UpdateNodeRolesRequest(id=who.node_id, **roles)  # type: ignore[arg-type]
    await update_node_roles(bench.leader, request, OWNER)


async def held(bench: Bench, who: Machine) -> tuple[str, ...]:
    record = await bench.leader.load(who.node_id)
    return record.roles.names


async def delete(bench: Bench, who: Machine, *, roles: bool = False, force: bool = False) -> None:
    request = DeleteNodeRequest(
        id=who.node_id,
        safety_bypass_has_roles=DeleteNodeRequest.SafetyBypassHasRoles() if roles else None,
        safety_bypass_not_decommissioned=DeleteNodeRequest.SafetyBypassNotDecommissioned()
        if force
        else None,
    )
    await delete_node(bench.leader, request, OWNER)


async def make_member(bench: Bench, who: Machine) -> None:
    """Give a node the role, let its member start and let it be promoted."""
    await asyncio.sleep(6)  # until the store counts every member as connected
    await set_roles(bench, who, consensus_member=True)
    bench.start_member(who)
    for member in await bench.membership.members():
        if member.is_learner:
            await bench.membership.promote(member.member_id)
