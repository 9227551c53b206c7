# SPDX-License-Identifier: Apache-2.0
"""The members that hold the cluster's state: who votes, how each is, what they can stand."""

import asyncio
from collections.abc import Sequence
from typing import Final

from metropolis.api import curator_pb2, introspection_pb2
from metropolis.api.introspection_pb2 import ConsensusMemberHealth
from metropolis.api.management_pb2 import Node
from metropolis.api.rpc_curator import Curator
from metropolis.api.rpc_introspection import Introspection
from metropolis.base.errors import MetropolisError
from metropolis.ctl.connection import Cluster

MEMBER_TIMEOUT_S: Final = 5.0  # a member that is that slow is not well
NO_LEADER: Final = "etcdserver: no leader"  # what a member says that no majority hears


async def ask_members(cluster: Cluster, found: Sequence[Node]) -> Sequence[ConsensusMemberHealth]:
    """Ask the leader who is a member, and then each member how it is.

    Args:
        found: The nodes of the cluster.

    Raises:
        MetropolisError: the leader cannot be asked. A member that does not answer is unreachable.
    """
    status = await cluster.channel.call(
        Curator.GET_CONSENSUS_STATUS,
        curator_pb2.GetConsensusStatusRequest(),
        timeout_s=cluster.timeout_s,
    )
    nodes = {node.id: node for node in found}
    listed = sorted(status.etcd_member, key=lambda each: each.id)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(_ask_member(cluster, nodes.get(each.id))) for each in listed]
    kind = curator_pb2.GetConsensusStatusResponse.EtcdMember
    members: list[ConsensusMemberHealth] = []
    for each, answer in zip(listed, asked, strict=True):
        member = answer.result()
        member.id = each.id
        member.voter = each.status == kind.STATUS_FULL
        member.learner = each.status == kind.STATUS_LEARNER
        members.append(member)
    return members


async def _ask_member(cluster: Cluster, node: Node | None) -> ConsensusMemberHealth:
    """Return what a member says of itself, or why it does not."""
    if node is None:
        return ConsensusMemberHealth(error="there is no such node")
    try:
        async with cluster.dial_node(node) as channel:
            response = await channel.call(
                Introspection.GET_CONSENSUS_HEALTH,
                introspection_pb2.GetConsensusHealthRequest(),
                timeout_s=min(cluster.timeout_s, MEMBER_TIMEOUT_S),
            )
    except MetropolisError as error:
        return ConsensusMemberHealth(error=str(error))
    if not response.members:
        return ConsensusMemberHealth(error="its member does not vote now")
    return response.members[0]


def summary(members: Sequence[ConsensusMemberHealth]) -> str:
    """Say what the members can stand. Pure."""
    voters = [member for member in members if member.voter]
    reached = [member for member in voters if member.reachable]
    # We reach it, the other members do not: in a split network it is as good as off.
    alive = sum(NO_LEADER not in member.error for member in reached)
    how = "can be reached" if alive == len(reached) else "can be reached and follow a leader"
    needed = len(voters) // 2 + 1
    if alive < needed:
        return (
            f"Only {alive} of {len(voters)} voting members {how} and {needed} are needed: "
            "the cluster cannot change anything until more are back."
        )
    spare = alive - needed
    return (
        f"{alive} of {len(voters)} voting members {how}; "
        f"{spare or 'none'} more may fail before changes stop."
    )
