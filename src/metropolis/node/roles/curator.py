# SPDX-License-Identifier: Apache-2.0
"""Port 7835: leads the cluster, or says who does."""

from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.cluster.curator import CuratorConfig
from metropolis.cluster.curator import curator as cluster_curator
from metropolis.node.roles.connect import LOOPBACK
from metropolis.node.roles.edges import RoleEdges
from metropolis.rpc.transport import Endpoint
from metropolis.supervision import Context


async def curator(ctx: Context, *, edges: RoleEdges) -> None:
    """Serve the Cluster API on the node's address and on loopback."""
    connection = await edges.wait_connection()
    identity = connection.identity
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
        relay=connection.channel.leader,
        clock=edges.host.clock,
        entropy=edges.host.entropy,
    )
    await cluster_curator(config)(ctx)
