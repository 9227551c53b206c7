# SPDX-License-Identifier: Apache-2.0
"""What still goes on when the disk below the leader's store is full, and what people do then. Pure.

Whoever sees to it that nothing more is written has room left for what makes room again. So users
are refused their changes, and are told why, except for those that help; what nodes report of
themselves and what the leader does by itself goes on.
"""

from typing import Final

from metropolis.api.audit_pb2 import Actor
from metropolis.base.errors import ResourceExhaustedError
from metropolis.cluster.planner.audit import Acting

FULL_BYTES: Final = 64 << 20  # a segment of etcd's write-ahead log
REMEDY: Final = (
    "Keep fewer scheduled backups: `metroctl cluster backup schedule`. If it stays full, the disk "
    "is too small: give the ConsensusMember role to another node and take it from this one, then "
    "install the machine again with a larger disk."
)
_MAKES_ROOM: Final = frozenset(
    {
        "AAA.Escrow",  # who is to help must be able to log in
        "Backup.SetSchedule",
        "Management.UpdateNodeRoles",
        "Management.DecommissionNode",
        "Management.DeleteNode",
        "Management.ApproveNode",  # of the node that is to hold the store instead
    }
)


def summary(free_bytes: int) -> str:
    """Say that a node's disk is full."""
    return (
        f"The disk of this node is full: {free_bytes >> 20} MiB are free, and its consensus store "
        "needs more than that to go on safely."
    )


def refusal(who: Acting) -> ResourceExhaustedError | None:
    """Return why somebody may change nothing while the disk is full; None: they may."""
    if who.actor.kind != Actor.KIND_USER or who.method in _MAKES_ROOM:
        return None
    return ResourceExhaustedError(
        "the disk of the leader is full: nothing was changed, and everything can still be read",
        remedy=REMEDY,
    )
