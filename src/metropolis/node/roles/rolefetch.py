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
from metropolis.node.roles.edges import Connection, RoleEdges
from metropolis.node.storage import LOCAL_ROLES
from metropolis.supervision import Context

RETRY_S: Final = 1.0


async def role_fetch(ctx: Context, *, edges: RoleEdges) -> None:
    """Set `roles` and `intent`, and keep the copy on disk."""
    identity = await edges.wait_identity()
    data = await edges.storage.read(LOCAL_ROLES)
    if data is not None:
        try:
            _publish(edges, identity, common_pb2.NodeRoles.FromString(data))
        except DecodeError as cause:
            raise DataLossError(f"{LOCAL_ROLES.path} is damaged", remedy=REINSTALL) from cause
    connection = await edges.wait_connection()
    ctx.healthy()
    last_problem = ""
    while True:
        try:
            await _follow(ctx, edges, connection)
        except MetropolisError as error:
            problem = chain(error)
            if problem != last_problem:
                ctx.log.warning("Cannot follow this node's roles: %s", problem)
            last_problem = problem
        await asyncio.sleep(RETRY_S)


async def _follow(ctx: Context, edges: RoleEdges, connection: Connection) -> None:
    node_id = connection.identity.node_id
    request = curator_pb2.WatchRequest()
    request.node_in_cluster.node_id = node_id
    async with connection.channel.open(Curator.WATCH) as stream:
        await stream.send(request)
        await stream.end()
        while (event := await stream.receive()) is not None:
            for node in event.nodes:
                if node.id == node_id:
                    await _adopt(ctx, edges, connection.identity, node.roles)
            for tombstone in event.node_tombstones:
                if tombstone.node_id == node_id:
                    ctx.log.error(
                        "This node was deleted from its cluster: it runs nothing any more. "
                        "Wipe the machine to use it again."
                    )
                    await _adopt(ctx, edges, connection.identity, common_pb2.NodeRoles())
    raise UnavailableError("the leader ended the stream of this node's roles")


async def _adopt(
    ctx: Context, edges: RoleEdges, identity: NodeIdentity, roles: common_pb2.NodeRoles
) -> None:
    if edges.roles.is_set and edges.roles.current == roles:
        return
    await edges.storage.write(LOCAL_ROLES, roles.SerializeToString(deterministic=True))
    ctx.log.info("Roles: %s", ", ".join(role_names(roles)) or "none")
    _publish(edges, identity, roles)


def _publish(edges: RoleEdges, identity: NodeIdentity, roles: common_pb2.NodeRoles) -> None:
    edges.roles.set(roles)
    if not roles.HasField("consensus_member"):
        edges.intent.set(None)
        return
    edges.intent.set(
        ConsensusIntent(
            node_id=identity.node_id,
            founds=False,
            role=roles.consensus_member,
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
