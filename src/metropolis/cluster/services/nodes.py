# SPDX-License-Identifier: Apache-2.0
"""Management.GetNodes: which nodes there are. Holds no lock while a slow caller reads."""

import asyncio
from typing import Final

from metropolis.api.management_pb2 import GetNodesRequest, Node
from metropolis.cluster.filters import compile_filter
from metropolis.cluster.leader import Leader
from metropolis.cluster.planner.health import judge, silence_ns
from metropolis.cluster.state.records import NodeRecord, management_node
from metropolis.rpc.channel import ServerStream

SLICE_NODES: Final = 500  # a few milliseconds of work, then others get their turn


async def get_nodes(leader: Leader, stream: ServerStream[GetNodesRequest, Node]) -> None:
    """Send every node that the filter selects, by id, as of one moment."""
    request = await stream.receive()
    text = "" if request is None else request.filter
    condition = compile_filter(text) if text else None
    nodes = await leader.confirmed()
    now_s = asyncio.get_running_loop().time()
    for number, record in enumerate(nodes.all(), start=1):
        node = _refreshed(leader, nodes.shown(record), record, now_s)
        if condition is None or condition.matches(node):
            selected = Node()
            selected.CopyFrom(node)
            await stream.send(selected)
        if number % SLICE_NODES == 0:
            await asyncio.sleep(0)


def shown_node(leader: Leader, record: NodeRecord) -> Node:
    """Return a node as operators see it, with its health as of now."""
    now_s = asyncio.get_running_loop().time()
    return _refreshed(leader, management_node(record), record, now_s)


def _refreshed(leader: Leader, node: Node, record: NodeRecord, now_s: float) -> Node:
    """Write a node's health as of one moment into what is shown of it."""
    pulse = leader.heartbeats.pulse(record.node_id, now_s=now_s)
    node.health = judge(record.state, pulse)
    silence = node.time_since_heartbeat
    silence.seconds, silence.nanos = divmod(silence_ns(record.state, pulse), 1_000_000_000)
    silence.SetInParent()
    return node
