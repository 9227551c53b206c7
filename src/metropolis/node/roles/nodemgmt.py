# SPDX-License-Identifier: Apache-2.0
"""Port 7839: what people ask of one node."""

from metropolis.api.rpc_introspection import Introspection
from metropolis.api.rpc_management import NodeManagement
from metropolis.base.ports import NODE_MANAGEMENT_TCP_PORT
from metropolis.node.management import power
from metropolis.node.management.introspection import IntrospectionService, States
from metropolis.node.management.logs import LogsService
from metropolis.node.roles.edges import RoleEdges
from metropolis.rpc.authentication import PolicyAuthenticator
from metropolis.rpc.channel import Services
from metropolis.rpc.transport import Endpoint
from metropolis.supervision import Context


async def node_management(ctx: Context, *, edges: RoleEdges, states: States) -> None:
    """Serve logs and introspection to users of the cluster."""
    identity = await edges.wait_identity()
    clock = edges.host.clock
    services = Services()
    services.stream(NodeManagement.LOGS, LogsService(ctx.log_tree, clock).logs)
    services.unary(NodeManagement.REBOOT, power.reboot)
    services.unary(NodeManagement.UPDATE_NODE, power.update_node)
    introspection = IntrospectionService(states, clock)
    services.unary(Introspection.GET_SUPERVISION_TREE, introspection.get_supervision_tree)
    authenticator = PolicyAuthenticator(
        ca_certificate=lambda: identity.ca_certificate, clock=clock, revoked=lambda _peer: None
    )
    async with edges.transport.serve(
        Endpoint(edges.host.addresses[0], NODE_MANAGEMENT_TCP_PORT),
        credentials=identity.credentials,
        services=services,
        authenticator=authenticator,
    ):
        ctx.healthy()
        await ctx.wait_cancelled()
