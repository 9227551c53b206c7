# SPDX-License-Identifier: Apache-2.0
"""Port 7839: what people ask of one node."""

import asyncio
from functools import partial
from typing import Final

from metropolis.api.rpc_backup import Backup, QuorumRecovery
from metropolis.api.rpc_introspection import ConsensusUpkeep, Introspection
from metropolis.api.rpc_management import NodeManagement
from metropolis.base.ports import NODE_MANAGEMENT_TCP_PORT
from metropolis.cluster.access import HeardAccess
from metropolis.cluster.services.backup import send_backup
from metropolis.node.management.introspection import IntrospectionService, States
from metropolis.node.management.logs import LogsService
from metropolis.node.management.power import PowerService, update_node
from metropolis.node.management.quorum import QuorumEdges, QuorumService
from metropolis.node.management.upkeep import UpkeepService
from metropolis.node.roles.access import recall_owner_key
from metropolis.node.roles.edges import RoleEdges
from metropolis.rpc.authentication import PolicyAuthenticator
from metropolis.rpc.channel import Services
from metropolis.rpc.transport import Endpoint, Server
from metropolis.supervision import Context

SWEEP_S: Final = 2.0  # between looks for connections that are not to be any more


async def node_management(ctx: Context, *, edges: RoleEdges, states: States) -> None:
    """Serve logs and introspection to users of the cluster."""
    identity = await edges.wait_identity()
    await recall_owner_key(edges)
    clock = edges.host.clock
    services = Services()
    services.stream(NodeManagement.LOGS, LogsService(ctx.log_tree, clock).logs)
    services.unary(NodeManagement.REBOOT, PowerService(edges.power, ctx.log).reboot)
    services.unary(NodeManagement.UPDATE_NODE, update_node)
    introspection = IntrospectionService(
        states,
        clock,
        node_id=identity.node_id,
        consensus=edges.consensus,
        storage=edges.host.storage,
        is_disk_full=lambda: edges.is_disk_full.current,
    )
    services.unary(Introspection.GET_SUPERVISION_TREE, introspection.get_supervision_tree)
    services.unary(Introspection.GET_CONSENSUS_HEALTH, introspection.get_consensus_health)
    member = QuorumEdges(
        storage=edges.host.storage,
        intent=edges.intent,
        consensus=edges.consensus,
        introduced=edges.introduced,
        clock=clock,
    )
    quorum = QuorumService(member, ctx.log, identity.node_id)
    services.stream(Backup.FETCH_BACKUP, partial(send_backup, read=edges.shelf.read))
    services.unary(QuorumRecovery.INSPECT_QUORUM, quorum.inspect_quorum)
    services.unary(QuorumRecovery.RECOVER_QUORUM, quorum.recover_quorum)
    services.unary(QuorumRecovery.INTRODUCE_NODES, quorum.introduce_nodes)
    upkeep = UpkeepService(edges.consensus, ctx.log, identity.node_id)
    services.unary(ConsensusUpkeep.DEFRAGMENT, upkeep.defragment)
    authenticator = PolicyAuthenticator(
        ca_certificate=lambda: identity.ca_certificate,
        clock=clock,
        revoked=edges.access.revoked,
        grants=edges.access.grants,
    )
    async with edges.transport.serve(
        Endpoint(edges.host.addresses[0], NODE_MANAGEMENT_TCP_PORT),
        credentials=identity.credentials,
        services=services,
        authenticator=authenticator,
    ) as server:
        ctx.healthy()
        await _close_unwanted(server, authenticator, edges.access)


async def _close_unwanted(
    server: Server, authenticator: PolicyAuthenticator, access: HeardAccess
) -> None:
    """Close connections of users who were revoked, may do less than before, or have expired."""
    before = access.current
    while True:
        await asyncio.sleep(SWEEP_S)
        now = access.current
        server.disconnect(now.unwanted_since(before))
        server.disconnect(authenticator.is_unwelcome)
        before = now
