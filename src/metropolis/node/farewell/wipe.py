# SPDX-License-Identifier: Apache-2.0
"""What is removed from a machine that is no node any more, and in which order."""

from metropolis.node.partition import DataPartition
from metropolis.node.storage import FAREWELL, PLACES, SEALED_CONFIGURATION, NodeStorage


async def wipe(storage: NodeStorage, partition: DataPartition) -> None:
    """Remove everything but the record of the wipe. May be repeated.

    First what opens an encrypted disk, then the disk, then the rest: node parameters too, for they
    would make a new node of this machine at its next start.
    """
    await storage.remove(SEALED_CONFIGURATION)
    await partition.wipe()
    for place in PLACES:
        if place is not FAREWELL:
            await storage.remove(place)
