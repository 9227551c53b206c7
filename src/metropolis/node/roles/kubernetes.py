# SPDX-License-Identifier: Apache-2.0
"""Port 6444, where the Kubernetes API will be: it answers, and says that it is not there yet.

Clients probe this port to learn the name in the node's certificate, so TLS must stand.
"""

import json
from http import HTTPStatus

from metropolis.base.ports import KUBERNETES_API_WRAPPED_TCP_PORT
from metropolis.node.roles.edges import RoleEdges
from metropolis.rpc.https import HttpResponse, ServeHttps
from metropolis.rpc.transport import Endpoint
from metropolis.supervision import Context

MESSAGE = "Kubernetes is not enabled yet"


def respond(_method: str, _target: str) -> HttpResponse:
    """Answer every request with the error object that Kubernetes' own clients print."""
    status: dict[str, object] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": MESSAGE,
        "reason": "ServiceUnavailable",
        "code": int(HTTPStatus.SERVICE_UNAVAILABLE),
    }
    return HttpResponse(
        status=HTTPStatus.SERVICE_UNAVAILABLE,
        content_type="application/json",
        body=json.dumps(status).encode() + b"\n",
    )


async def kubernetes_api(ctx: Context, *, edges: RoleEdges, serve: ServeHttps) -> None:
    """Answer on the node's address while this runnable lives."""
    identity = await edges.wait_identity()
    endpoint = Endpoint(edges.host.addresses[0], KUBERNETES_API_WRAPPED_TCP_PORT)
    async with serve(endpoint, credentials=identity.credentials, respond=respond):
        ctx.healthy()
        await ctx.wait_cancelled()
