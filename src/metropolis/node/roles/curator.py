# SPDX-License-Identifier: Apache-2.0
"""Port 7835: leads the cluster, or says who does."""

from functools import partial

from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.cluster.curator import CuratorConfig
from metropolis.cluster.curator import curator as cluster_curator
from metropolis.cluster.office import LeaderHint
from metropolis.node.roles.connect import LOOPBACK
from metropolis.node.roles.edges import RoleEdges
from metropolis.rpc.resolver import ClusterChannel
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
    )
    ctx.run("relay", partial(_relay, channel=connection.channel, hint=relay))
    await cluster_curator(config)(ctx)


async def _relay(ctx: Context, *, channel: ClusterChannel, hint: Value[LeaderHint | None]) -> None:
    """Pass on what this node's own channel found out about the leader."""
    ctx.healthy()
    while True:
        if channel.leader is not None:
            hint.set(LeaderHint(node_id=channel.leader_id, host=channel.leader.host))
        await channel.wait_leader_change()
