# SPDX-License-Identifier: Apache-2.0
"""Copies of scheduled backups on the disks of all members, so that no lost node takes the only one.

Each member compares its shelf with the leader's and fetches what it lacks of the newest. A copy
counts once it was read again from the disk and has the digest that the leader computed when the
backup was made.
"""

import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping, Sequence

from metropolis.api.backup_pb2 import KeptBackup
from metropolis.base.errors import DataLossError
from metropolis.cluster.backup.shelf import Shelf


def missing(
    own: Sequence[KeptBackup], leaders: Sequence[KeptBackup], *, keep: int
) -> Sequence[KeptBackup]:
    """Return what a member has to fetch to hold the newest `keep`, newest first. Pure.

    What a leader made before there were digests is not fetched.
    """
    here = {each.header.generation for each in own}
    there = {each.header.generation: each for each in leaders}
    newest = sorted(here | there.keys(), reverse=True)[:keep]
    wanted = [there[number] for number in newest if number not in here]
    return [each for each in wanted if each.sha256]


def merged(
    leader_id: str, leaders: Sequence[KeptBackup], reported: Mapping[str, Sequence[KeptBackup]]
) -> Sequence[KeptBackup]:
    """Return every backup once, newest first, with the nodes that hold it, the leader first. Pure.

    Args:
        reported: What other members hold, by node id.
    """
    found: dict[int, KeptBackup] = {}
    for node_id, held in ((leader_id, leaders), *sorted(reported.items())):
        for each in held:
            if each.header.generation not in found:
                one = found[each.header.generation] = KeptBackup()
                one.CopyFrom(each)
                one.ClearField("nodes")
            found[each.header.generation].nodes.append(node_id)
    return [found[generation] for generation in sorted(found, reverse=True)]


async def take_copy(shelf: Shelf, kept: KeptBackup, pieces: AsyncIterator[bytes]) -> None:
    """Put a copy on a shelf; nothing is left of one that is not the same.

    Raises:
        DataLossError: what came, or what lies on the disk now, is not that backup.
    """
    place = await shelf.begin(kept.header.generation)
    size_bytes, digest = 0, hashlib.sha256()
    try:
        async for piece in pieces:
            size_bytes += len(piece)
            if size_bytes > kept.size_bytes:
                raise _differs(kept)
            await place.write(piece)
        async for piece in place.read():
            digest.update(piece)
        if size_bytes != kept.size_bytes or not hmac.compare_digest(digest.digest(), kept.sha256):
            raise _differs(kept)
        one = KeptBackup()
        one.CopyFrom(kept)
        one.ClearField("nodes")
        await place.finish(one)
    except BaseException:
        await place.abandon()
        raise


def _differs(kept: KeptBackup) -> DataLossError:
    return DataLossError(
        f"the copy of backup {kept.header.generation} is not what the leader made",
        remedy="It is fetched again. Should that go on, check the disks of this node and the "
        "leader.",
    )
