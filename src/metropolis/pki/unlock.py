# SPDX-License-Identifier: Apache-2.0
"""The two halves of a node's disk key, and the key itself.

    node unlock key     (kept by the node)     XOR
    cluster unlock key  (kept by the cluster)   =   disk key

Either half alone says nothing about the disk key.
"""

from dataclasses import dataclass
from typing import ClassVar

from metropolis.pki.secret import Secret


@dataclass(frozen=True, slots=True, eq=False)
class NodeUnlockKey(Secret):
    """The half that never leaves the node."""

    NOUN: ClassVar[str] = "a node unlock key"


@dataclass(frozen=True, slots=True, eq=False)
class ClusterUnlockKey(Secret):
    """The half that the cluster hands back to a node which joins."""

    NOUN: ClassVar[str] = "a cluster unlock key"


@dataclass(frozen=True, slots=True, eq=False)
class DiskKey(Secret):
    """What opens the data partition."""

    NOUN: ClassVar[str] = "a disk key"


def disk_key(node: NodeUnlockKey, cluster: ClusterUnlockKey) -> DiskKey:
    """Put both halves together."""
    return DiskKey(bytes(a ^ b for a, b in zip(node.data, cluster.data, strict=True)))
