# SPDX-License-Identifier: Apache-2.0
"""Curator.Watch: nodes as they are, then as they change.

Every watch is a list of keys that changed since it last looked into the one shared cache: a slow
watcher gets the newest record of each, never a queue, and costs the store nothing.

Every node watches all nodes, so a change is told to thousands: those who are told the same share
one event, which is encoded once.
"""

from collections.abc import Sequence
from typing import Final

from metropolis.api.curator_pb2 import WatchEvent, WatchRequest
from metropolis.base.errors import UnimplementedError
from metropolis.base.ids import parse_node_id
from metropolis.cluster.cache import NodeCache, node_id_in
from metropolis.cluster.leader import Leader
from metropolis.cluster.state import keys
from metropolis.cluster.state.records import curator_node
from metropolis.cluster.told import Versions
from metropolis.consensus.mirror import Change, MirrorWatcher
from metropolis.rpc.channel import Packed, ServerStream

EVENT_BYTES_MAX: Final = 2 << 20  # half of what clients accept in one message

Stream = ServerStream[WatchRequest, WatchEvent]


async def watch(leader: Leader, stream: Stream) -> None:
    """Serve one watch until the caller goes, or leadership does."""
    request = await stream.receive()
    kind = None if request is None else request.WhichOneof("kind")
    if request is not None and kind == "node_in_cluster":
        key = keys.node(parse_node_id(request.node_in_cluster.node_id))
        nodes = await leader.confirmed()
        with nodes.mirror.watch(key) as watcher:
            await _watch_one(nodes, watcher, stream)
    elif kind == "nodes_in_cluster":
        nodes = await leader.confirmed()
        with nodes.mirror.watch() as watcher:
            await _watch_all(nodes, watcher, stream)
    raise UnimplementedError(
        "the watch is of no known kind", remedy="Set node_in_cluster or nodes_in_cluster."
    )


async def _watch_one(nodes: NodeCache, watcher: MirrorWatcher, stream: Stream) -> None:
    last: WatchEvent | None = None
    while True:
        for event in _events(nodes, await watcher.receive()):
            if event != last:  # only what watchers see counts
                await stream.send(event)
                last = event


async def _watch_all(nodes: NodeCache, watcher: MirrorWatcher, stream: Stream) -> None:
    await _send_backlog(nodes, watcher, stream)
    while True:
        await _send_changes(nodes, watcher, stream)


# Functions of their own, so that a watch that waits holds no event: there are many watches, and
# the events of each hold the whole cluster.


async def _send_backlog(nodes: NodeCache, watcher: MirrorWatcher, stream: Stream) -> None:
    changes = await watcher.receive()
    for event in nodes.told.backlog.get(_versions(changes), lambda: _backlog(nodes, changes)):
        await stream.send_packed(event)


async def _send_changes(nodes: NodeCache, watcher: MirrorWatcher, stream: Stream) -> None:
    changes = await watcher.receive()
    for event in nodes.told.changes.get(_versions(changes), lambda: _packed(nodes, changes)):
        await stream.send_packed(event)


def _versions(changes: Sequence[Change]) -> Versions:
    """Return what an event follows from: which keys, in which revision; 0: gone."""
    return tuple(
        (change.key, 0 if change.item is None else change.item.mod_revision) for change in changes
    )


def _backlog(nodes: NodeCache, changes: Sequence[Change]) -> list[Packed[WatchEvent]]:
    backlog = _events(nodes, changes) or [WatchEvent()]
    backlog[-1].progress = WatchEvent.PROGRESS_LAST_BACKLOGGED
    return [Packed(event) for event in backlog]


def _packed(nodes: NodeCache, changes: Sequence[Change]) -> list[Packed[WatchEvent]]:
    return [Packed(event) for event in _events(nodes, changes)]


def _events(nodes: NodeCache, changes: Sequence[Change]) -> list[WatchEvent]:
    """Pack changes into as few events as fit; unreadable records are left out."""
    events: list[WatchEvent] = []
    size = EVENT_BYTES_MAX
    for change in changes:
        part = _shown(nodes, change)
        if part is None:
            continue
        length = part.ByteSize()
        if size + length > EVENT_BYTES_MAX:
            events.append(WatchEvent())
            size = 0
        size += length
        events[-1].MergeFrom(part)
    return events


def _shown(nodes: NodeCache, change: Change) -> WatchEvent | None:
    if change.item is None:
        tombstone = WatchEvent.NodeTombstone(node_id=node_id_in(change.key))
        return WatchEvent(node_tombstones=[tombstone])
    record = nodes.decode(change.item)
    return None if record is None else WatchEvent(nodes=[curator_node(record)])
