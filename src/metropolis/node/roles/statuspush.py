# SPDX-License-Identifier: Apache-2.0
"""Tells the leader where this node is, what it runs, and that it was started anew."""

import asyncio
from typing import Final

from metropolis.api import common_pb2, curator_pb2
from metropolis.api.rpc_curator import Curator
from metropolis.base.errors import MetropolisError, chain
from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.node.roles.edges import RoleEdges
from metropolis.node.version import product_version
from metropolis.rpc.status import NodeDeletedError
from metropolis.supervision import Context

RETRY_S: Final = 1.0


async def status_push(ctx: Context, *, edges: RoleEdges) -> None:
    """Send the whole status whenever it changed, until the leader took it."""
    identity = await edges.wait_identity()
    consensus = edges.consensus.watch()
    ctx.healthy()
    reported: common_pb2.NodeStatus | None = None
    while True:
        status = _status(edges, leads_or_follows=(await consensus.receive()) is not None)
        if status == reported:
            continue
        request = curator_pb2.UpdateNodeStatusRequest(node_id=identity.node_id, status=status)
        while True:
            connection = await edges.wait_connection()
            try:
                await connection.channel.call(Curator.UPDATE_NODE_STATUS, request)
            except MetropolisError as error:
                if not error.retryable and not isinstance(error, NodeDeletedError):
                    raise  # of a deletion, rolefetch draws the consequences
                ctx.log.warning("The leader does not take this node's status: %s", chain(error))
                await asyncio.sleep(RETRY_S)
            else:
                break
        reported = status
        ctx.log.info("Status reported: address %s", status.external_address)


def _status(edges: RoleEdges, *, leads_or_follows: bool) -> common_pb2.NodeStatus:
    status = common_pb2.NodeStatus(
        external_address=edges.host.addresses[0],
        version=product_version(edges.product),
        boot_id=edges.host.boot_id,
    )
    if leads_or_follows:
        status.running_curator.port = CURATOR_TCP_PORT
    return status
