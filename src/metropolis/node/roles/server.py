# SPDX-License-Identifier: Apache-2.0
"""The role server itself: its parts, each a child that may fail and start again by itself."""

from functools import partial

from metropolis.node.management.introspection import States
from metropolis.node.roles.access import access
from metropolis.node.roles.connect import connect
from metropolis.node.roles.control_plane import control_plane
from metropolis.node.roles.curator import curator
from metropolis.node.roles.edges import RoleEdges
from metropolis.node.roles.heartbeat import heartbeat
from metropolis.node.roles.hosts import hosts
from metropolis.node.roles.kubernetes import kubernetes_api
from metropolis.node.roles.nodemgmt import node_management
from metropolis.node.roles.rolefetch import role_fetch
from metropolis.node.roles.statuspush import status_push
from metropolis.supervision import Context, RestartRequestedError


async def role_server(ctx: Context, *, edges: RoleEdges, states: States) -> None:
    """Run the parts. The control plane runs before the node is enrolled: a bootstrap needs it.

    A node that was deleted keeps only what removes the consensus member, tells people what
    happened, and hears of it should the cluster know the node after all.
    """
    is_deleted = edges.is_deleted.current
    ctx.run("controlplane", partial(control_plane, edges=edges))
    ctx.run("connection", partial(connect, edges=edges))
    ctx.run("rolefetch", partial(role_fetch, edges=edges))
    ctx.run("nodemgmt", partial(node_management, edges=edges, states=states))
    if not is_deleted:
        ctx.run("access", partial(access, edges=edges))
        ctx.run("curator", partial(curator, edges=edges))
        ctx.run("statuspush", partial(status_push, edges=edges))
        ctx.run("heartbeat", partial(heartbeat, edges=edges))
        ctx.run("hosts", partial(hosts, edges=edges))
        if edges.serve_https is not None:
            ctx.run("kubernetes", partial(kubernetes_api, edges=edges, serve=edges.serve_https))
    ctx.healthy()
    await edges.is_deleted.wait_for(lambda now: now is not is_deleted)
    raise RestartRequestedError(
        "the cluster knows this node again" if is_deleted else "this node was deleted"
    )
