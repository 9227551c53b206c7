# SPDX-License-Identifier: Apache-2.0
"""What can be asked of a cluster about its nodes: plain functions that return messages.

Everything here may be repeated: approving an approved node, giving a held role and so on change
nothing. So whoever waits for a cluster simply calls again.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from metropolis.api import management_pb2
from metropolis.api.management_pb2 import Node
from metropolis.api.rpc_management import Management
from metropolis.base.errors import InvalidArgumentError, NotFoundError, UnavailableError
from metropolis.ctl.connection import TIMEOUT_S
from metropolis.ctl.suggestions import did_you_mean, nearest
from metropolis.rpc.channel import Channel

NEW_NODES: Final = "node.state == NODE_STATE_NEW"
LIST_REMEDY: Final = "List the nodes with `metroctl node list`."
_ID_PREFIX: Final = "metropolis-"
_LISTED_MAX: Final = 5
_RETRY_S: Final = 0.5

ROLES: Final[Mapping[str, str]] = {  # in lower case -> the role's name
    "kubernetescontroller": "KubernetesController",
    "kc": "KubernetesController",
    "kubernetesworker": "KubernetesWorker",
    "kw": "KubernetesWorker",
    "consensusmember": "ConsensusMember",
    "cm": "ConsensusMember",
}


async def list_nodes(
    channel: Channel, filter_text: str = "", *, timeout_s: float = TIMEOUT_S
) -> list[Node]:
    """Return every node that matches a CEL expression, sorted by id.

    Raises:
        InvalidArgumentError: the expression is not one.
        UnavailableError: no leader was reached in time.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + timeout_s
    while True:
        try:
            return await _list_once(channel, filter_text, deadline_s - loop.time())
        except UnavailableError:  # reading harms nobody: a leader may go while it answers
            if loop.time() + _RETRY_S >= deadline_s:
                raise
            await asyncio.sleep(_RETRY_S)


async def _list_once(channel: Channel, filter_text: str, timeout_s: float) -> list[Node]:
    nodes: list[Node] = []
    async with channel.open(Management.GET_NODES, timeout_s=timeout_s) as stream:
        await stream.send(management_pb2.GetNodesRequest(filter=filter_text))
        await stream.end()
        while (node := await stream.receive()) is not None:
            nodes.append(node)
    return sorted(nodes, key=lambda each: each.id)


async def list_new_nodes(channel: Channel, *, timeout_s: float = TIMEOUT_S) -> list[Node]:
    """Return the nodes that wait for approval."""
    return await list_nodes(channel, NEW_NODES, timeout_s=timeout_s)


async def find_node(channel: Channel, wanted: str, *, timeout_s: float = TIMEOUT_S) -> Node:
    """Return the one node that an id, a unique beginning of one, or an address names.

    Raises:
        NotFoundError: none; the remedy names the nearest.
        InvalidArgumentError: more than one.
    """
    return pick(await list_nodes(channel, timeout_s=timeout_s), wanted)


def pick(nodes: Sequence[Node], wanted: str) -> Node:
    """Return the one of these nodes that an id, a unique beginning of one, or an address names.

    Raises:
        NotFoundError: none; the remedy names the nearest.
        InvalidArgumentError: more than one.
    """
    text = wanted.strip().lower()
    at_address = [node for node in nodes if text and node.status.external_address == text]
    if len(at_address) == 1:
        return at_address[0]
    prefix = text if text.startswith(_ID_PREFIX) else _ID_PREFIX + text
    found = [node for node in nodes if text and node.id.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    if found:
        shown = [node.id for node in found[:_LISTED_MAX]]
        more = f" and {len(found) - len(shown)} more" if len(found) > len(shown) else ""
        raise InvalidArgumentError(
            f"{wanted[:64]!r} begins the ids of {len(found)} nodes: {', '.join(shown)}{more}",
            remedy="Give more digits of the id.",
        )
    raise NotFoundError(
        f"no such node: {wanted[:64]!r}",
        remedy=did_you_mean(prefix, [node.id for node in nodes]) or LIST_REMEDY,
    )


def pick_all(nodes: Sequence[Node], wanted: Iterable[str]) -> list[Node]:
    """Return the nodes that ids, or unique beginnings, name: each once, in the given order.

    Raises:
        NotFoundError: one names none.
        InvalidArgumentError: one names several.
    """
    return list({node.id: node for node in (pick(nodes, each) for each in wanted)}.values())


async def approve_node(channel: Channel, node: Node, *, timeout_s: float = TIMEOUT_S) -> None:
    """Let a node into the cluster.

    Raises:
        MetropolisError: the cluster refused.
    """
    request = management_pb2.ApproveNodeRequest(pubkey=node.pubkey)
    await channel.call(Management.APPROVE_NODE, request, timeout_s=timeout_s)


async def update_roles(
    channel: Channel,
    node_id: str,
    *,
    add: Iterable[str] = (),
    remove: Iterable[str] = (),
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Give roles to a node and take roles from it; other roles stay as they are.

    Args:
        add: Names as `parse_role` returns them; all are given in one step.
        remove: Likewise.

    Raises:
        MetropolisError: the cluster refused; nothing was changed.
    """
    request = management_pb2.UpdateNodeRolesRequest(id=node_id)
    for names, value in ((add, True), (remove, False)):
        for name in names:
            if name == "ConsensusMember":
                request.consensus_member = value
            elif name == "KubernetesController":
                request.kubernetes_controller = value
            else:
                assert name == "KubernetesWorker", "parse_role returned it"
                request.kubernetes_worker = value
    await channel.call(Management.UPDATE_NODE_ROLES, request, timeout_s=timeout_s)


def parse_role(text: str) -> str:
    """Return the name of a role given in full or short, in any case.

    Raises:
        InvalidArgumentError: there is no such role.
    """
    role = ROLES.get(text.lower())
    if role is None:
        near = nearest(text, ROLES)
        raise InvalidArgumentError(
            f"there is no role {text[:64]!r}",
            remedy=(f"Did you mean {ROLES[near[0]]}? " if near else "")
            + "The roles are ConsensusMember (cm), KubernetesController (kc) and "
            "KubernetesWorker (kw).",
        )
    return role


async def update_labels(
    channel: Channel,
    node_id: str,
    *,
    upsert: Mapping[str, str],
    delete: Sequence[str] = (),
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Set labels of a node and delete others, in one step.

    Raises:
        MetropolisError: the cluster refused; nothing was changed.
    """
    request = management_pb2.UpdateNodeLabelsRequest(id=node_id, delete=delete)
    for key, value in upsert.items():
        request.upsert.add(key=key, value=value)
    await channel.call(Management.UPDATE_NODE_LABELS, request, timeout_s=timeout_s)


async def delete_node(
    channel: Channel,
    node_id: str,
    *,
    bypass_has_roles: bool = False,
    bypass_not_decommissioned: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Make the cluster forget a node.

    Args:
        bypass_has_roles: Even if it holds roles.
        bypass_not_decommissioned: Even if it was not taken out of service before.

    Raises:
        MetropolisError: the cluster refused.
    """
    request = management_pb2.DeleteNodeRequest(id=node_id)
    if bypass_has_roles:
        request.safety_bypass_has_roles.SetInParent()
    if bypass_not_decommissioned:
        request.safety_bypass_not_decommissioned.SetInParent()
    await channel.call(Management.DELETE_NODE, request, timeout_s=timeout_s)


async def register_ticket(channel: Channel, *, timeout_s: float = TIMEOUT_S) -> bytes:
    """Return the ticket that machines register with: 34 bytes, a secret."""
    request = management_pb2.GetRegisterTicketRequest()
    response = await channel.call(Management.GET_REGISTER_TICKET, request, timeout_s=timeout_s)
    return response.ticket


async def cluster_info(
    channel: Channel, *, timeout_s: float = TIMEOUT_S
) -> management_pb2.GetClusterInfoResponse:
    """Return directory, CA and configuration of the cluster."""
    request = management_pb2.GetClusterInfoRequest()
    return await channel.call(Management.GET_CLUSTER_INFO, request, timeout_s=timeout_s)
