# SPDX-License-Identifier: Apache-2.0
"""Decoded node records over the watched cache of the store.

Records are decoded when first asked for, once per revision. One that cannot be decoded is left
out and named in the log, once; the others are unaffected.
"""

from metropolis.api.management_pb2 import Node
from metropolis.base.errors import DataLossError
from metropolis.base.ids import NodeId
from metropolis.cluster.state import keys, records
from metropolis.cluster.state.records import NodeRecord, management_node
from metropolis.cluster.told import ToldWatchers
from metropolis.consensus.mirror import Mirror
from metropolis.consensus.store import KeyValue
from metropolis.supervision import Logger


class NodeCache:
    """What the mirror of `keys.NODES` knows, as records. Never waits; see `leader` for when."""

    def __init__(self, mirror: Mirror, log: Logger) -> None:
        self.mirror = mirror
        self._log = log
        self._decoded: dict[bytes, tuple[int, NodeRecord | None]] = {}
        self._shown: dict[str, tuple[int, Node]] = {}
        self.told = ToldWatchers()

    def __len__(self) -> int:
        return len(self.mirror.items)

    def get(self, node_id: str) -> NodeRecord | None:
        """Return a node's record; None when there is none, or none that can be read."""
        item = self.mirror.items.get(keys.NODES + node_id.encode())
        return None if item is None else self.decode(item)

    def knows(self, node_id: str) -> bool:
        """Tell whether there is a record at all, readable or not."""
        return keys.NODES + node_id.encode() in self.mirror.items

    def all(self) -> list[NodeRecord]:
        """Return every readable record, ordered by node id."""
        if len(self._decoded) > 2 * len(self.mirror.items) + 16:
            self._forget_deleted()
        found = map(self.decode, self.mirror.items.values())
        return [record for record in found if record is not None]

    def decode(self, item: KeyValue) -> NodeRecord | None:
        """Decode a record of the mirror, or find it decoded."""
        known = self._decoded.get(item.key)
        if known is not None and known[0] == item.mod_revision:
            return known[1]
        try:
            record: NodeRecord | None = records.decode(item)
        except DataLossError as error:
            record = None
            self._log.error("%s: it is left out. %s", error, error.remedy)
        self._decoded[item.key] = (item.mod_revision, record)
        return record

    def shown(self, record: NodeRecord) -> Node:
        """Return what operators see of a record of this cache, made once per revision.

        Shared by all: whoever changes more than its health must copy it.
        """
        known = self._shown.get(record.node_id)
        if known is not None and known[0] == record.mod_revision:
            return known[1]
        node = management_node(record)
        self._shown[record.node_id] = (record.mod_revision, node)
        return node

    def external_address(self, node_id: str) -> str:
        """Return what a node reported as its address; empty when it has not."""
        record = self.get(node_id)
        return "" if record is None else record.external_address

    def _forget_deleted(self) -> None:
        items = self.mirror.items
        self._decoded = {key: known for key, known in self._decoded.items() if key in items}
        self._shown = {name: known for name, known in self._shown.items() if self.knows(name)}


def node_id_in(key: bytes) -> NodeId:
    """Return the node id that a key of the mirror ends with, however it is spelled."""
    return NodeId(key.removeprefix(keys.NODES).decode("ascii", errors="replace"))
