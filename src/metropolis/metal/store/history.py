# SPDX-License-Identifier: Apache-2.0
"""Reading the bounded history of changes."""

from collections.abc import Sequence
from typing import Final

from metropolis.base.errors import OutOfRangeError
from metropolis.metal.store.interface import Change, Reader

BATCH_REVISIONS: Final = 1000  # looked at in one go

_COUNTERS: Final = (
    "SELECT value FROM counter WHERE name IN ('change_floor', 'revision') ORDER BY name"
)
_CHANGES: Final = (
    "SELECT revision, kind, id, operation FROM change"
    " WHERE revision > $1 AND revision <= $2 ORDER BY revision, kind, id"
)


async def changes_after(reader: Reader, after: int) -> Sequence[Change]:
    """Return changes after a revision, whole revisions only, as many as are good to handle.

    Raises:
        OutOfRangeError: history does not reach back so far, or has never been so far.
    """
    (floor,), (newest,) = await reader.fetch(_COUNTERS)
    if not floor <= after <= newest:
        raise OutOfRangeError(
            f"changes are known from revision {floor} to {newest}, not from {after}",
            remedy="Read everything anew and watch from the revision of that.",
        )
    while after < newest:
        until = min(after + BATCH_REVISIONS, newest)
        rows = await reader.fetch(_CHANGES, after, until)
        if rows:
            return [
                Change(revision=revision, kind=kind, id=key, operation=operation)
                for revision, kind, key, operation in rows
            ]
        after = until
    return ()
