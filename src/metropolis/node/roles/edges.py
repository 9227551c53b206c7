# SPDX-License-Identifier: Apache-2.0
"""What the parts of the role server share: edges, and watchable values that connect them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from metropolis.api import common_pb2, curator_pb2
from metropolis.cluster.access import HeardAccess
from metropolis.cluster.backup.shelf import Shelf
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.scratch import Scratch
from metropolis.host import Host
from metropolis.node.identity import NodeIdentity
from metropolis.node.intent import ConsensusIntent
from metropolis.node.management.power import MachinePower
from metropolis.node.metrics.edges import MetricsEdges
from metropolis.node.product import DebugEdges, ProductInfo
from metropolis.node.storage import NodeStorage
from metropolis.rpc.https import ServeHttps
from metropolis.rpc.resolver import ClusterChannel
from metropolis.rpc.transport import Transport
from metropolis.supervision import Runnable, Value

# Returns the runnable of a consensus member, which keeps the value: etcd, or its twin.
MemberFactory = Callable[[ConsensusIntent, Value[ConsensusStatus | None]], Runnable]


def _unknown_intent() -> Value[ConsensusIntent | None]:
    """Unset, until somebody knows whether there is to be a member."""
    return Value()


def _nobody() -> Value[Mapping[str, str]]:
    return Value({})


def _unheard() -> Value[Mapping[str, curator_pb2.Node] | None]:
    return Value(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """An enrolled node's way to its cluster: a channel that follows the leader."""

    identity: NodeIdentity
    channel: ClusterChannel


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleEdges:
    """See the room's page for who sets which value.

    Attributes:
        product: What the system image says it is; None where there is none.
        power: Ends this machine; None where a node is a program of another computer.
        shelf: Scheduled backups on this node's disk.
        scratch: Where they are rehearsed.
        debug: Of a debug image; None on any other.
        introduced: Where the owner has found other nodes, by id, when all had moved.
        relocations: How many such introductions the disk remembers.
        nodes: The nodes of the cluster by id, as last heard in full; None before.
        heartbeat_s: When the leader last answered a heartbeat, by `Clock.monotonic_s`.
        access: Which users this node's own servers admit.
        is_deleted: The cluster has forgotten this node; it stops what it does as a member.
        is_retired: The cluster has taken this node out of service; it must say goodbye.
        must_wipe: Goodbye is said: everything stops, and the machine is wiped.
        is_idle: Everything has stopped.
        is_disk_full: What room is left on the data partition is for what makes room.
    """

    host: Host
    storage: NodeStorage
    transport: Transport
    member: MemberFactory
    shelf: Shelf
    scratch: Scratch
    serve_https: ServeHttps | None = None
    metrics: MetricsEdges | None = None
    debug: DebugEdges | None = None
    product: ProductInfo | None = None
    power: MachinePower | None = None
    identity: Value[NodeIdentity | None] = field(default_factory=lambda: Value(None))
    connection: Value[Connection | None] = field(default_factory=lambda: Value(None))
    roles: Value[common_pb2.NodeRoles | None] = field(default_factory=lambda: Value(None))
    intent: Value[ConsensusIntent | None] = field(default_factory=_unknown_intent)
    consensus: Value[ConsensusStatus | None] = field(default_factory=lambda: Value(None))
    introduced: Value[Mapping[str, str]] = field(default_factory=_nobody)
    relocations: Value[int] = field(default_factory=lambda: Value(0))
    nodes: Value[Mapping[str, curator_pb2.Node] | None] = field(default_factory=_unheard)
    heartbeat_s: Value[float | None] = field(default_factory=lambda: Value(None))
    access: HeardAccess = field(default_factory=HeardAccess)
    is_deleted: Value[bool] = field(default_factory=lambda: Value(False))
    is_retired: Value[bool] = field(default_factory=lambda: Value(False))
    must_wipe: Value[bool] = field(default_factory=lambda: Value(False))
    is_idle: Value[bool] = field(default_factory=lambda: Value(False))
    is_disk_full: Value[bool] = field(default_factory=lambda: Value(False))

    async def wait_identity(self) -> NodeIdentity:
        """Wait until the node is enrolled."""
        found = await self.identity.wait_for(lambda identity: identity is not None)
        assert found is not None
        return found

    async def wait_connection(self) -> Connection:
        """Wait until the node is enrolled and has a channel to its cluster."""
        found = await self.connection.wait_for(lambda connection: connection is not None)
        assert found is not None
        return found
