# SPDX-License-Identifier: Apache-2.0
"""What this node knows of the other nodes, from one watch.

Their names, for etcd's peers; whom its channel can ask who leads; and the cluster directory, for
the next start.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from metropolis.api import common_pb2, curator_pb2
from metropolis.api.rpc_curator import Curator
from metropolis.base.errors import MetropolisError, UnavailableError, chain
from metropolis.node.enrolment.join import read_cluster_directory
from metropolis.node.roles.edges import Connection, RoleEdges
from metropolis.node.roles.whereabouts import Whereabouts
from metropolis.node.storage import CLUSTER_DIRECTORY
from metropolis.rpc.transport import Endpoint
from metropolis.supervision import Context

RETRY_S: Final = 1.0


async def hosts(ctx: Context, *, edges: RoleEdges) -> None:
    """Keep this machine's names in step with the cluster; start from what the disk remembers."""
    identity = await edges.wait_identity()
    await edges.host.names.set_host_name(identity.node_id)
    known = {
        node.id: node.addresses[0].host
        for node in (await read_cluster_directory(edges.storage)).nodes
        if node.id and node.addresses
    }
    where = Whereabouts(identity.node_id, edges.host.addresses[0], known)
    await edges.host.names.set_hosts(where.addresses)
    await edges.wait_connection()
    ctx.healthy()
    async with asyncio.TaskGroup() as group:
        group.create_task(_listen_to_the_owner(ctx, edges, where))
        group.create_task(_follow_for_ever(ctx, edges, where))


async def _listen_to_the_owner(ctx: Context, edges: RoleEdges, where: Whereabouts) -> None:
    """Believe whom the owner introduces; the disk remembers the members among them, too."""
    watcher = edges.introduced.watch()
    while True:
        told = await watcher.receive()
        if not told:
            continue
        where.introduce(told)
        await edges.host.names.set_hosts(where.addresses)
        directory = await read_cluster_directory(edges.storage)
        for node in directory.nodes:
            if node.id in told:
                node.ClearField("addresses")
                node.addresses.add(host=where.addresses[node.id])
        await edges.storage.write(
            CLUSTER_DIRECTORY, directory.SerializeToString(deterministic=True)
        )
        edges.relocations.set(edges.relocations.current + 1)
        ctx.log.info("Looking for the others where the owner has found them")


async def _follow_for_ever(ctx: Context, edges: RoleEdges, where: Whereabouts) -> None:
    last_problem = ""
    while True:
        connection = await edges.wait_connection()
        try:
            await _follow(edges, connection, where)
        except MetropolisError as error:
            problem = chain(error)
            if problem != last_problem:
                ctx.log.warning("Cannot follow the addresses of the nodes: %s", problem)
            last_problem = problem
        await asyncio.sleep(RETRY_S)


async def _follow(edges: RoleEdges, connection: Connection, where: Whereabouts) -> None:
    """Apply every change. Names are complete, hence replaced, only after the first backlog."""
    request = curator_pb2.WatchRequest()
    request.nodes_in_cluster.SetInParent()
    nodes: dict[str, curator_pb2.Node] = {}
    is_complete = False
    async with connection.channel.open(Curator.WATCH) as stream:
        await stream.send(request)
        await stream.end()
        while (event := await stream.receive()) is not None:
            nodes.update((node.id, node) for node in event.nodes)
            for tombstone in event.node_tombstones:
                nodes.pop(tombstone.node_id, None)
            is_complete |= event.progress == curator_pb2.WatchEvent.PROGRESS_LAST_BACKLOGGED
            if is_complete:
                edges.nodes.set(dict(nodes))
                await _apply(edges, connection, where, nodes)
    raise UnavailableError("the leader ended the stream of nodes")


async def _apply(
    edges: RoleEdges,
    connection: Connection,
    where: Whereabouts,
    nodes: Mapping[str, curator_pb2.Node],
) -> None:
    before = where.addresses
    where.hear(
        {
            node.id: node.status.external_address
            for node in sorted(nodes.values(), key=lambda node: node.id)
            if node.status.external_address
        }
    )
    addresses = where.addresses
    connection.channel.learn_members(
        {
            node.id: Endpoint(addresses[node.id], node.status.running_curator.port)
            for node in nodes.values()
            if node.id in addresses and node.status.running_curator.port
        }
    )
    if addresses != before:
        await edges.host.names.set_hosts(addresses)
    directory = common_pb2.ClusterDirectory()
    for node_id, address in sorted(addresses.items()):
        if node_id in nodes and nodes[node_id].roles.HasField("consensus_member"):
            directory.nodes.add(id=node_id).addresses.add(host=address)
    if directory.nodes and directory != await read_cluster_directory(edges.storage):
        await edges.storage.write(
            CLUSTER_DIRECTORY, directory.SerializeToString(deterministic=True)
        )
