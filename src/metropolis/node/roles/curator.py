# SPDX-License-Identifier: Apache-2.0
"""Port 7835: leads the cluster, or says who does."""

from functools import partial

from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.cluster.curator import CuratorConfig
from metropolis.cluster.curator import curator as cluster_curator
from metropolis.cluster.office import LeaderHint
from metropolis.cluster.unrecorded import Notes
from metropolis.node.roles.connect import LOOPBACK
from metropolis.node.roles.edges import Connection, RoleEdges
from metropolis.node.storage import UNRECORDED
from metropolis.rpc.transport import Endpoint
from metropolis.supervision import Context, Value


async def curator(ctx: Context, *, edges: RoleEdges) -> None:
    """Serve the Cluster API on the node's address and on loopback."""
    connection = await edges.wait_connection()
    identity = connection.identity
    relay: Value[LeaderHint | None] = Value(None)
    config = CuratorConfig(
        node_id=identity.node_id,
        credentials=identity.credentials,
        ca_certificate=identity.ca_certificate,
        transport=edges.transport,
        endpoints=[
            Endpoint(edges.host.addresses[0], CURATOR_TCP_PORT),
            Endpoint(LOOPBACK, CURATOR_TCP_PORT),
        ],
        consensus=edges.consensus,
        relay=relay,
        clock=edges.host.clock,
        entropy=edges.host.entropy,
        shelf=edges.shelf,
        scratch=edges.scratch,
        notes=Notes(edges.host.storage, UNRECORDED.path),
        is_disk_full=edges.is_disk_full,
    )
    ctx.run("relay", partial(_relay, connection=connection, hint=relay))
    await cluster_curator(config)(ctx)


async def _relay(ctx: Context, *, connection: Connection, hint: Value[LeaderHint | None]) -> None:
    """Pass on what this node's own channel found out about the leader, unless it is this node.

    What it hears about itself is outdated: a node that leads needs no hearsay.
    """
    channel = connection.channel
    ctx.healthy()
    while True:
        is_known = channel.leader is not None and channel.leader_id != connection.identity.node_id
        host = channel.leader.host if channel.leader is not None else ""
        hint.set(LeaderHint(node_id=channel.leader_id, host=host) if is_known else None)
        await channel.wait_leader_change()
