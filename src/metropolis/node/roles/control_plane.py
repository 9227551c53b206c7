# SPDX-License-Identifier: Apache-2.0
"""Runs the consensus member while the cluster wants one here, and forgets it afterwards."""

from metropolis.node.intent import ConsensusIntent
from metropolis.node.roles.edges import RoleEdges
from metropolis.node.storage import ETCD
from metropolis.supervision import Context, RestartRequestedError


async def control_plane(ctx: Context, *, edges: RoleEdges) -> None:
    """Start or stop the member when the intent appears or disappears; other changes need nothing.

    etcd's own list of members is the truth; what the role says beside its presence only matters
    for the first start. A new certificate means that the role came and went unseen: a watcher
    gets the newest value only.
    """
    watcher = edges.intent.watch()
    intent = await watcher.receive()
    if intent is None:
        edges.consensus.set(None)
        lost_the_role = edges.roles.current is not None
        if lost_the_role and await edges.storage.directory.exists(ETCD.path):
            ctx.log.info("This node is no consensus member any more: removing etcd's data")
            await edges.storage.remove(ETCD)
    else:
        ctx.run("consensus", edges.member(intent, edges.consensus))
    ctx.healthy()
    while True:
        newer = await watcher.receive()
        if _what_matters(newer) != _what_matters(intent):
            raise RestartRequestedError("the ConsensusMember role of this node changed")


def _what_matters(intent: ConsensusIntent | None) -> tuple[bytes, int]:
    return (b"", 0) if intent is None else (intent.role.peer_certificate, intent.attempt)
