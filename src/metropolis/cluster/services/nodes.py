# SPDX-License-Identifier: Apache-2.0
"""Management.GetNodes: which nodes there are. Holds no lock while a slow caller reads."""

import asyncio
from typing import Final

from google.protobuf.duration_pb2 import Duration

from metropolis.api.management_pb2 import GetNodesRequest, Node
from metropolis.cluster.filters import compile_filter
from metropolis.cluster.leader import Leader
from metropolis.cluster.planner.health import judge
from metropolis.cluster.state.records import NodeRecord, management_node
from metropolis.rpc.channel import ServerStream

SLICE_NODES: Final = 500  # a few milliseconds of work, then others get their turn


async def get_nodes(leader: Leader, stream: ServerStream[GetNodesRequest, Node]) -> None:
    """Send every node that the filter selects, by id, as of one moment."""
    request = await stream.receive()
    text = "" if request is None else request.filter
    condition = compile_filter(text) if text else None
    for number, record in enumerate((await leader.confirmed()).all(), start=1):
        node = shown_node(leader, record)
        if condition is None or condition.matches(node):
            await stream.send(node)
        if number % SLICE_NODES == 0:
            await asyncio.sleep(0)


def shown_node(leader: Leader, record: NodeRecord) -> Node:
    """Return a node as operators see it, with its health as of now."""
    pulse = leader.heartbeats.pulse(record.node_id)
    node = management_node(record)
    node.health = judge(record.state, pulse)
    seconds, nanos = divmod(pulse.silence_ns, 1_000_000_000)
    node.time_since_heartbeat.CopyFrom(Duration(seconds=seconds, nanos=nanos))
    return node
