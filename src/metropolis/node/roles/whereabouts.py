# SPDX-License-Identifier: Apache-2.0
"""Where nodes are, as this one believes: from its disk, from the cluster, from the owner. Pure.

When all nodes move at once, nobody finds anybody, and the cluster cannot tell until a majority has
met. Then the owner says where everybody is. The cluster's own records are outdated for a moment
after that: what it says is believed again, of each node, once it is something new.
"""

from collections.abc import Mapping


class Whereabouts:
    """Addresses of nodes by id.

    Args:
        own_id: This node's; it knows best where it is itself.
        known: What the disk remembers.
    """

    def __init__(self, own_id: str, own_address: str, known: Mapping[str, str]) -> None:
        self._own = {own_id: own_address}
        self._outdated: dict[str, str] = {}  # address that an introduced node had before
        self.addresses = {**known, **self._own}

    def introduce(self, told: Mapping[str, str]) -> None:
        """Believe what the owner says of some nodes."""
        for node_id, address in told.items():
            before = self.addresses.get(node_id)
            if before is not None and before != address:
                self._outdated[node_id] = before
            self.addresses[node_id] = address
        self.addresses.update(self._own)

    def hear(self, told: Mapping[str, str]) -> None:
        """Believe what the cluster says of all nodes; others are forgotten."""
        believed = dict(told)
        for node_id, outdated in list(self._outdated.items()):
            if told.get(node_id) == outdated:
                believed[node_id] = self.addresses[node_id]
            else:
                del self._outdated[node_id]
        self.addresses = {**believed, **self._own}
