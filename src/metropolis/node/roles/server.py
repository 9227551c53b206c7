# SPDX-License-Identifier: Apache-2.0
"""The role server itself: its parts, each a child that may fail and start again by itself."""

import asyncio
from functools import partial

from metropolis.node.management.introspection import States
from metropolis.node.roles.access import access
from metropolis.node.roles.backups import backups
from metropolis.node.roles.connect import connect
from metropolis.node.roles.control_plane import control_plane
from metropolis.node.roles.curator import curator
from metropolis.node.roles.debug import debug
from metropolis.node.roles.edges import RoleEdges
from metropolis.node.roles.farewell import farewell
from metropolis.node.roles.heartbeat import heartbeat
from metropolis.node.roles.hosts import hosts
from metropolis.node.roles.kubernetes import kubernetes_api
from metropolis.node.roles.metrics import metrics
from metropolis.node.roles.nodemgmt import node_management
from metropolis.node.roles.rolefetch import role_fetch
from metropolis.node.roles.statuspush import status_push
from metropolis.supervision import Context, RestartRequestedError


async def role_server(ctx: Context, *, edges: RoleEdges, states: States) -> None:
    """Run the parts. The control plane runs before the node is enrolled: a bootstrap needs it.

    A node that was deleted keeps only what removes the consensus member, tells people what
    happened, and hears of it should the cluster know the node after all. One that is about to be
    wiped keeps nothing.
    """
    if edges.must_wipe.current:
        edges.is_idle.set(True)
        ctx.healthy()
        await ctx.wait_cancelled()
    is_deleted = edges.is_deleted.current
    ctx.run("controlplane", partial(control_plane, edges=edges))
    ctx.run("connection", partial(connect, edges=edges))
    ctx.run("rolefetch", partial(role_fetch, edges=edges))
    ctx.run("nodemgmt", partial(node_management, edges=edges, states=states))
    if not is_deleted:
        ctx.run("farewell", partial(farewell, edges=edges))
        ctx.run("access", partial(access, edges=edges))
        ctx.run("curator", partial(curator, edges=edges))
        ctx.run("backups", partial(backups, edges=edges))
        ctx.run("statuspush", partial(status_push, edges=edges))
        ctx.run("heartbeat", partial(heartbeat, edges=edges))
        ctx.run("hosts", partial(hosts, edges=edges))
        if edges.serve_https is not None:
            ctx.run("kubernetes", partial(kubernetes_api, edges=edges, serve=edges.serve_https))
        if edges.metrics is not None:
            ctx.run("metrics", partial(metrics, edges=edges, outside=edges.metrics))
        if edges.debug is not None:
            ctx.run("debug", partial(debug, edges=edges, outside=edges.debug))
    ctx.healthy()
    raise RestartRequestedError(await _reason_to_restart(edges, is_deleted=is_deleted))


async def _reason_to_restart(edges: RoleEdges, *, is_deleted: bool) -> str:
    """Wait until other parts are to run than now."""
    reason: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def deletion() -> None:
        await edges.is_deleted.wait_for(lambda now: now is not is_deleted)
        if not reason.done():
            known = "the cluster knows this node again" if is_deleted else "this node was deleted"
            reason.set_result(known)

    async def wipe() -> None:
        await edges.must_wipe.wait_for(lambda must: must)
        if not reason.done():
            reason.set_result("this machine is about to be wiped")

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(deletion()), group.create_task(wipe())]
        found = await reason
        for task in tasks:
            task.cancel()
    return found
