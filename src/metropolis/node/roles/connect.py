# SPDX-License-Identifier: Apache-2.0
"""Opens this node's channel to its cluster, and keeps it finding the leader."""

from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.node.enrolment.join import read_cluster_directory
from metropolis.node.enrolment.register import directory_endpoints
from metropolis.node.roles.edges import Connection, RoleEdges
from metropolis.pki.identity import server_verifier
from metropolis.rpc.resolver import ClusterChannel
from metropolis.rpc.transport import Endpoint
from metropolis.supervision import Context, RestartRequestedError

LOOPBACK = "127.0.0.1"


async def connect(ctx: Context, *, edges: RoleEdges) -> None:
    """Publish the connection while this runnable lives.

    This node asks itself only if it is in the directory of consensus members: what a non-member
    says about the leader it heard from this very channel. When the owner has said where the members
    are, there is a new channel that has never heard of another place.
    """
    begun_with = edges.relocations.current
    identity = await edges.wait_identity()
    own = Endpoint(LOOPBACK, CURATOR_TCP_PORT)
    directory = await read_cluster_directory(edges.storage)
    async with ClusterChannel(
        edges.transport,
        directory_endpoints(directory) or [own],
        credentials=identity.credentials,
        verify=server_verifier(identity.ca_certificate),
        overrides={identity.node_id: own},
        follows_members=False,  # `hosts` watches all nodes anyway: one watch per node is enough
        rng=edges.host.entropy.jitter(),
        log=ctx.log,
    ) as channel:
        edges.connection.set(Connection(identity=identity, channel=channel))
        ctx.healthy()
        try:
            await edges.relocations.wait_for(lambda count: count != begun_with)
            raise RestartRequestedError("the owner says where the members are")
        finally:
            edges.connection.set(None)
