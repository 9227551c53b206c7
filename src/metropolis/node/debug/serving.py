# SPDX-License-Identifier: Apache-2.0
"""Listens on port 7837 while its runnable lives."""

from metropolis.api.rpc_debug import NodeDebugService
from metropolis.base.ports import NODE_DEBUG_TCP_PORT
from metropolis.host import Clock
from metropolis.node.debug.admission import OnlyOwner
from metropolis.node.debug.service import DebugService, get_debug_kubeconfig
from metropolis.node.management.logs import LogsService
from metropolis.node.product import DebugEdges
from metropolis.pki.credentials import Credentials
from metropolis.rpc.channel import Services
from metropolis.rpc.transport import Authenticator, Endpoint, Transport
from metropolis.supervision import Context

WARNING = (
    "THIS IS A DEBUG IMAGE: WHOEVER HOLDS THE OWNER'S KEY CAN LOOK INTO ITS KERNEL. "
    "NEVER RUN IT IN A CLUSTER THAT MATTERS."
)


async def serve_debug(
    ctx: Context,
    *,
    edges: DebugEdges,
    transport: Transport,
    host: str,
    clock: Clock,
    credentials: Credentials,
    authenticator: Authenticator,
) -> None:
    """Serve the owner.

    Args:
        host: Literal address to listen at.
        authenticator: Judges certificates as on the node's other ports.
    """
    ctx.log.warning("%s", WARNING)
    service = DebugService(edges.tracer, ctx.log)
    services = Services()
    services.unary(NodeDebugService.GET_DEBUG_KUBECONFIG, get_debug_kubeconfig)
    services.stream(NodeDebugService.LOGS, LogsService(ctx.log_tree, clock).logs)
    services.stream(NodeDebugService.TRACE, service.trace)
    services.stream(NodeDebugService.LOAD_IMAGE, service.load_image)
    async with transport.serve(
        Endpoint(host, NODE_DEBUG_TCP_PORT),
        credentials=credentials,
        services=services,
        authenticator=OnlyOwner(authenticator),
    ):
        ctx.healthy()
        await ctx.wait_cancelled()
