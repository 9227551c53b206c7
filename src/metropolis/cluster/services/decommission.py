# SPDX-License-Identifier: Apache-2.0
"""How operators take a node out of service, and how the node itself says goodbye.

Management.DecommissionNode, which clients of the original know, answers as soon as the decommission
is stored: from then on it goes on by itself. Asked again, it only confirms that.
"""

import hmac
from collections.abc import Sequence

from metropolis.api.decommission_pb2 import (
    AcceptWipeRequest,
    AcceptWipeResponse,
    DecommissionProgress,
    DecommissionRequest,
    ReportWipedRequest,
    ReportWipedResponse,
)
from metropolis.api.management_pb2 import DecommissionNodeRequest, DecommissionNodeResponse
from metropolis.base.errors import InvalidArgumentError, NotFoundError
from metropolis.base.ids import parse_node_id
from metropolis.cluster import retire
from metropolis.cluster.leader import Leader
from metropolis.cluster.planner.decommission import Step
from metropolis.cluster.retiring import Said
from metropolis.cluster.services.callers import (
    NodeName,
    calling_node,
    check_public_key,
    named_node,
    proven_key,
)
from metropolis.cluster.state import decommissions
from metropolis.cluster.state.fenced import retry_conflicts
from metropolis.rpc.channel import ServerStream
from metropolis.rpc.peer import Peer


async def decommission_node(
    leader: Leader, request: DecommissionNodeRequest, _peer: Peer
) -> DecommissionNodeResponse:
    """Begin to decommission a node that can be reached."""
    await retire.start(leader, named_node(request), is_forced=False)
    return DecommissionNodeResponse()


async def decommission(
    leader: Leader, stream: ServerStream[DecommissionRequest, DecommissionProgress]
) -> None:
    """Begin, or look on: every step is told until the last one is done."""
    request = await stream.receive()
    if request is None:
        raise InvalidArgumentError("the request names no node", remedy="Set id.")
    node_id = parse_node_id(request.id)
    await retire.start(leader, NodeName(node_id=node_id), is_forced=request.force)
    watcher = leader.retiring.said(node_id).watch()
    last: Said | None = None
    while True:
        for said in _since(await watcher.receive(), last):
            await stream.send(
                DecommissionProgress(
                    step=said.step.value,  # type: ignore[arg-type]  # the numbers are the same
                    message=said.sentence,
                    waiting=said.is_waiting,
                )
            )
            if said.step is Step.DONE:
                return
            last = said


def _since(sentences: Sequence[Said], last: Said | None) -> Sequence[Said]:
    for number, said in enumerate(sentences):
        if said is last:
            return sentences[number + 1 :]
    return sentences


async def accept_wipe(leader: Leader, request: AcceptWipeRequest, peer: Peer) -> AcceptWipeResponse:
    """Note with which key a node will say that it is wiped."""
    node_id = calling_node(peer)
    key = check_public_key(request.farewell_public_key, "farewell_public_key")

    async def attempt() -> None:
        begun = await retire.stored_decommission(leader, node_id)
        if begun.message.farewell_public_key != key:
            changed = begun.changed(farewell_public_key=key)
            await leader.commit(decommissions.to_change(changed, "began to wipe itself"))
            leader.log.info("Node %s begins to wipe itself", node_id)

    await retry_conflicts(attempt)
    leader.retiring.wake.set()
    return AcceptWipeResponse()


async def report_wiped(
    leader: Leader, request: ReportWipedRequest, peer: Peer
) -> ReportWipedResponse:
    """Note that a machine is wiped."""
    shown = proven_key(peer)
    node_id = parse_node_id(request.node_id)

    async def attempt() -> None:
        begun = await retire.stored_decommission(leader, node_id)
        known = begun.message.farewell_public_key
        if not known or not hmac.compare_digest(known, shown):
            raise NotFoundError(
                f"node {node_id} is not being decommissioned with that key",
                remedy="Nothing is left to do for this machine; install it again to use it.",
            )
        if not begun.message.wiped:
            changed = begun.changed(is_wiped=True)
            await leader.commit(decommissions.to_change(changed, "reported that it is wiped"))
            leader.log.info("Node %s has wiped itself", node_id)

    await retry_conflicts(attempt)
    leader.retiring.wake.set()
    return ReportWipedResponse()
