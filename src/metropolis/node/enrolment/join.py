# SPDX-License-Identifier: Apache-2.0
"""What a finished node does at every later start: open its disk and be who it is.

A disk without encryption opens by itself, so such a node comes back even when no other node is
reachable. An encrypted one needs the cluster's half of its key, which only the leader gives.
"""

import asyncio
from typing import Final

from google.protobuf.message import DecodeError

from metropolis.api import common_pb2, curator_pb2, private_pb2
from metropolis.api.rpc_curator import Curator
from metropolis.base.errors import DataLossError, MetropolisError, chain
from metropolis.node.enrolment.edges import EnrolmentEdges
from metropolis.node.enrolment.register import directory_endpoints
from metropolis.node.identity import REINSTALL, NodeIdentity, read_identity
from metropolis.node.storage import CLUSTER_DIRECTORY, SEALED_CONFIGURATION, NodeStorage
from metropolis.pki import keys
from metropolis.pki.certificates import issue_ephemeral
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import server_verifier
from metropolis.pki.unlock import ClusterUnlockKey, DiskKey, NodeUnlockKey, disk_key
from metropolis.rpc.resolver import ClusterChannel
from metropolis.supervision import Context

RETRY_S: Final = 2.0
CALL_TIMEOUT_S: Final = 10.0


async def join(
    ctx: Context, edges: EnrolmentEdges, sealed: private_pb2.SealedConfiguration
) -> NodeIdentity:
    """Open the data partition and read who this node is.

    Nobody is asked for a key of what is open: a node that has just founded a cluster, or whose tree
    starts again, may be the very leader that would have to answer.
    """
    ctx.log_tree.conceal(sealed.join_key)
    if edges.partition.is_open:
        return await read_identity(edges.storage, sealed)
    key: DiskKey | None = None
    if sealed.storage_security != common_pb2.NODE_STORAGE_SECURITY_INSECURE:
        ctx.log_tree.conceal(sealed.node_unlock_key)
        cluster_half = await _cluster_unlock_key(ctx, edges, sealed)
        ctx.log_tree.conceal(cluster_half)
        key = disk_key(NodeUnlockKey(sealed.node_unlock_key), ClusterUnlockKey(cluster_half))
    await edges.partition.open(sealed.storage_security, key)
    return await read_identity(edges.storage, sealed)


async def read_cluster_directory(storage: NodeStorage) -> common_pb2.ClusterDirectory:
    """Where the cluster was when this node last knew. Empty when it never wrote it down.

    Raises:
        DataLossError: the file is damaged.
    """
    data = await storage.read(CLUSTER_DIRECTORY)
    try:
        return common_pb2.ClusterDirectory.FromString(data or b"")
    except DecodeError as cause:
        raise DataLossError(f"{CLUSTER_DIRECTORY.path} is damaged", remedy=REINSTALL) from cause


async def _cluster_unlock_key(
    ctx: Context, edges: EnrolmentEdges, sealed: private_pb2.SealedConfiguration
) -> bytes:
    join_key = keys.from_go_form(sealed.join_key)
    request = curator_pb2.JoinNodeRequest(
        using_sealed_configuration=await edges.storage.is_sealed(SEALED_CONFIGURATION)
    )
    async with ClusterChannel(
        edges.transport,
        directory_endpoints(await read_cluster_directory(edges.storage)),
        credentials=Credentials(certificate=issue_ephemeral(join_key), key=join_key),
        verify=server_verifier(sealed.cluster_ca),
        rng=edges.host.entropy.jitter(),
        log=ctx.log,
    ) as channel:
        while True:
            try:
                response = await channel.call(Curator.JOIN_NODE, request, timeout_s=CALL_TIMEOUT_S)
            except MetropolisError as error:
                ctx.log.warning(
                    "The cluster does not hand out its half of the disk key, trying again: %s",
                    chain(error),
                )
                await asyncio.sleep(RETRY_S)
            else:
                return response.cluster_unlock_key
