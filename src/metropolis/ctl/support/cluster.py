# SPDX-License-Identifier: Apache-2.0
"""What the leader says of the cluster. Nothing in it is secret."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from metropolis.api.audit_pb2 import ListRequest
from metropolis.api.management_pb2 import Node
from metropolis.ctl import audit_log, members, nodes
from metropolis.ctl.connection import Cluster
from metropolis.ctl.documents import document_of, node_document

AUDIT_RECORDS: Final = 500  # the newest

Question = Callable[[Cluster, Sequence[Node]], Awaitable[object]]  # -> a document


async def _information(cluster: Cluster, _found: Sequence[Node]) -> object:
    return document_of(await nodes.cluster_info(cluster.channel, timeout_s=cluster.timeout_s))


async def _nodes(_cluster: Cluster, found: Sequence[Node]) -> object:
    return [node_document(node) for node in found]


async def _consensus(cluster: Cluster, found: Sequence[Node]) -> object:
    said = await members.ask_members(cluster, found)
    return {"summary": members.summary(said), "members": [document_of(each) for each in said]}


async def _audit_head(cluster: Cluster, _found: Sequence[Node]) -> object:
    return document_of(await audit_log.get_head(cluster))


async def _audit(cluster: Cluster, _found: Sequence[Node]) -> object:
    request = ListRequest(newest_first=True, limit=AUDIT_RECORDS)
    documents: list[object] = []
    await audit_log.read(
        cluster,
        request,
        lambda got: documents.append(audit_log.document(audit_log.entry_of(got))),
    )
    return documents


QUESTIONS: Final[Mapping[str, Question]] = {
    "cluster/information.json": _information,
    "cluster/nodes.json": _nodes,
    "cluster/consensus.json": _consensus,
    "cluster/audit-head.json": _audit_head,
    "cluster/audit.json": _audit,
}
