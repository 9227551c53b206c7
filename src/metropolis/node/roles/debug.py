# SPDX-License-Identifier: Apache-2.0
"""Port 7837, on debug images only: elsewhere this never runs, and what it imports is not there."""

from importlib import import_module
from typing import Any, Final

from metropolis.node.product import DebugEdges
from metropolis.node.roles.access import recall_owner_key
from metropolis.node.roles.edges import RoleEdges
from metropolis.rpc.authentication import PolicyAuthenticator
from metropolis.supervision import Context

SERVING: Final = "metropolis.node.debug.serving"  # not in a release image


async def debug(ctx: Context, *, edges: RoleEdges, outside: DebugEdges) -> None:
    """Serve whoever develops the system, and owns the cluster."""
    serving: Any = import_module(SERVING)
    identity = await edges.wait_identity()
    await recall_owner_key(edges)
    await serving.serve_debug(
        ctx,
        edges=outside,
        transport=edges.transport,
        host=edges.host.addresses[0],
        clock=edges.host.clock,
        credentials=identity.credentials,
        authenticator=PolicyAuthenticator(
            ca_certificate=lambda: identity.ca_certificate,
            clock=edges.host.clock,
            revoked=edges.access.revoked,
            grants=edges.access.grants,
        ),
    )
