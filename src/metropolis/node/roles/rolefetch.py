# SPDX-License-Identifier: Apache-2.0
"""Learns what the cluster asks of this node: from disk at once, then from the leader.

What is on disk lets a consensus member start before any leader can be reached; otherwise a cluster
whose nodes were all switched off could never come back.
"""

import asyncio
from typing import Final

from google.protobuf.message import DecodeError

from metropolis.api import common_pb2, curator_pb2
from metropolis.api.rpc_curator import Curator
from metropolis.base.errors import DataLossError, MetropolisError, UnavailableError, chain
from metropolis.node.identity import REINSTALL, NodeIdentity
from metropolis.node.intent import ConsensusIntent
from metropolis.node.roles.edges import RoleEdges
from metropolis.node.storage import LOCAL_ROLES
from metropolis.rpc.channel import Channel
from metropolis.rpc.status import NodeDeletedError, NodeRetiredError
from metropolis.supervision import Context

RETRY_S: Final = 1.0
DELETED_CERTAIN_S: Final = 5.0  # more than the lease of a leader that lost touch with the store
DELETED_RETRY_S: Final = 30.0


async def role_fetch(ctx: Context, *, edges: RoleEdges) -> None:
    """Set `roles`, `intent` and `is_deleted`, and keep the copy of the roles on disk."""
    identity = await edges.wait_identity()
    data = await edges.storage.read(LOCAL_ROLES)
    if data is not None:
        try:
            _publish(edges, identity, common_pb2.NodeRoles.FromString(data))
        except DecodeError as cause:
            raise DataLossError(f"{LOCAL_ROLES.path} is damaged", remedy=REINSTALL) from cause
    await edges.wait_connection()
    ctx.healthy()
    await _RoleFetch(ctx, edges, identity).run()


class _RoleFetch:
    """Follows this node's record at the leader.

    A node is deleted when a leader shows its tombstone, or refuses its certificate for that reason
    and goes on doing so: the watch often ends before the tombstone gets through, and a node that
    was off never sees one. What follows cannot be undone, hence the second look.
    """

    def __init__(self, ctx: Context, edges: RoleEdges, identity: NodeIdentity) -> None:
        self._log = ctx.log
        self._edges = edges
        self._identity = identity
        self._refused_since_s: float | None = None

    async def run(self) -> None:
        last_problem = ""
        while True:
            connection = await self._edges.wait_connection()
            try:
                await self._follow(connection.channel)
            except NodeDeletedError as error:
                await self._refused(error)
            except MetropolisError as error:
                problem = chain(error)
                if problem != last_problem:
                    self._log.warning("Cannot follow this node's roles: %s", problem)
                last_problem = problem
            await asyncio.sleep(DELETED_RETRY_S if self._edges.is_deleted.current else RETRY_S)

    async def _follow(self, channel: Channel) -> None:
        node_id = self._identity.node_id
        request = curator_pb2.WatchRequest()
        request.node_in_cluster.node_id = node_id
        async with channel.open(Curator.WATCH) as stream:
            await stream.send(request)
            await stream.end()
            while (event := await stream.receive()) is not None:
                self._refused_since_s = None
                for node in event.nodes:
                    if node.id == node_id:
                        await self._adopt(node.roles)
                        if node.state == common_pb2.NODE_STATE_DECOMMISSIONED:
                            self._edges.is_retired.set(True)
                        self._set_deleted(is_deleted=False)
                for tombstone in event.node_tombstones:
                    if tombstone.node_id == node_id:
                        await self._retire()
        raise UnavailableError("the leader ended the stream of this node's roles")

    async def _refused(self, error: NodeDeletedError) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._refused_since_s is None:
            self._refused_since_s = now_s
            self._log.warning("The leader refuses this node: %s", chain(error))
        if now_s - self._refused_since_s < DELETED_CERTAIN_S:
            return
        if isinstance(error, NodeRetiredError):
            self._edges.is_retired.set(True)
        else:
            await self._retire()

    async def _retire(self) -> None:
        if not self._edges.is_deleted.current:
            self._log.error(
                "This node was deleted from its cluster: it runs nothing any more. "
                "Wipe the machine and install it again to use it as a new node."
            )
            await self._adopt(common_pb2.NodeRoles())
            self._set_deleted(is_deleted=True)

    def _set_deleted(self, *, is_deleted: bool) -> None:
        if self._edges.is_deleted.current is not is_deleted:
            self._edges.is_deleted.set(is_deleted)

    async def _adopt(self, roles: common_pb2.NodeRoles) -> None:
        edges = self._edges
        if edges.roles.is_set and edges.roles.current == roles:
            return
        await edges.storage.write(LOCAL_ROLES, roles.SerializeToString(deterministic=True))
        self._log.info("Roles: %s", ", ".join(role_names(roles)) or "none")
        _publish(edges, self._identity, roles)


def _publish(edges: RoleEdges, identity: NodeIdentity, roles: common_pb2.NodeRoles) -> None:
    edges.roles.set(roles)
    if not roles.HasField("consensus_member"):
        edges.intent.set(None)
        return
    before = edges.intent.current if edges.intent.is_set else None
    edges.intent.set(
        ConsensusIntent(
            node_id=identity.node_id,
            founds=False,
            role=roles.consensus_member,
            attempt=0 if before is None else before.attempt,
            key=identity.credentials.key,
        )
    )


def role_names(roles: common_pb2.NodeRoles) -> list[str]:
    """The roles that are set, as people write them."""
    names = {
        "consensus_member": "ConsensusMember",
        "kubernetes_controller": "KubernetesController",
        "kubernetes_worker": "KubernetesWorker",
    }
    return [spoken for field, spoken in names.items() if roles.HasField(field)]  # type: ignore[arg-type]  # literal keys
