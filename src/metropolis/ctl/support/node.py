# SPDX-License-Identifier: Apache-2.0
"""What one node says of itself, each question by itself: some may be answered, others not."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from metropolis.api import introspection_pb2, logtree_pb2
from metropolis.api.management_pb2 import Node
from metropolis.api.rpc_introspection import Introspection
from metropolis.base.errors import InvalidArgumentError, UnavailableError
from metropolis.ctl import explanation, node_logs, node_metrics
from metropolis.ctl.connection import Cluster
from metropolis.ctl.documents import document_of
from metropolis.rpc.channel import Channel
from metropolis.supervision.log_text import format_entry
from metropolis.supervision.logtree_wire import from_wire

LOG_S: Final = 60.0  # to read all of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A node to ask.

    Attributes:
        node: Its record; when no leader could be asked, only its address is in it.
        channel: To its own port.
        log_entries: How many of the newest are wanted.
    """

    cluster: Cluster
    node: Node
    channel: Channel
    log_entries: int


Question = Callable[[Asked], Awaitable[bytes]]


async def _supervision(asked: Asked) -> bytes:
    response = await asked.channel.call(
        Introspection.GET_SUPERVISION_TREE,
        introspection_pb2.GetSupervisionTreeRequest(),
        timeout_s=asked.cluster.timeout_s,
    )
    return _json(document_of(response))


async def _consensus(asked: Asked) -> bytes:
    response = await asked.channel.call(
        Introspection.GET_CONSENSUS_HEALTH,
        introspection_pb2.GetConsensusHealthRequest(),
        timeout_s=asked.cluster.timeout_s,
    )
    return _json(document_of(response))


async def _explain(asked: Asked) -> bytes:
    if not asked.node.id:
        raise UnavailableError("no leader answers, and only it can explain a node")
    found = await explanation.explain(asked.cluster, asked.node)
    return _json(explanation.document(found))


async def _log(asked: Asked) -> bytes:
    lines: list[str] = []

    def show(message: logtree_pb2.LogEntry) -> None:
        try:
            lines.append(format_entry(from_wire(message)))
        except InvalidArgumentError as error:
            lines.append(f"({error})")

    request = node_logs.request_of(node_logs.Query(backlog=asked.log_entries))
    try:
        async with asyncio.timeout(LOG_S):
            await node_logs.read(asked.channel, request, show)
    except TimeoutError:
        lines.append(f"(cut here: it took longer than {LOG_S:.0f} s)")
    return "\n".join([*lines, ""]).encode()


def _figures(exporter: str) -> Question:
    async def ask(asked: Asked) -> bytes:
        return await node_metrics.scrape(asked.cluster, asked.node, exporter)

    return ask


def _json(document: object) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


QUESTIONS: Final[Mapping[str, Question]] = {
    "supervision.json": _supervision,
    "explain.json": _explain,
    "consensus.json": _consensus,
    "log.txt": _log,
    "metrics-core.txt": _figures("core"),
    "metrics-node.txt": _figures("node"),
    "metrics-etcd.txt": _figures("etcd"),
}
