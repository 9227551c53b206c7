# SPDX-License-Identifier: Apache-2.0
import asyncio
from typing import cast

from metropolis.api import common_pb2
from metropolis.node.boot.board import Board, role_names
from metropolis.node.boot.confirmation import wait_membership
from metropolis.node.identity import NodeIdentity
from metropolis.node.roles.edges import RoleEdges
from metropolis.supervision import Value


class Roles:
    """The values of a node's roles that count."""

    def __init__(self) -> None:
        self.identity: Value[object] = Value(None)
        self.roles: Value[common_pb2.NodeRoles | None] = Value(None)
        self.heartbeat_s: Value[float | None] = Value(None)

    async def wait_identity(self) -> NodeIdentity:
        return cast("NodeIdentity", await self.identity.wait_for(lambda found: found is not None))


def board() -> Board:
    return Board(product=None, network=Value(None), network_waits_for=Value(""))


def test_a_node_is_a_member_when_the_leader_has_heard_it() -> None:
    async def scenario() -> None:
        there, roles = board(), Roles()
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            waiting = group.create_task(wait_membership(there))
            there.roles.set(cast("RoleEdges", roles))
            roles.identity.set(object())
            roles.roles.set(common_pb2.NodeRoles())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not waiting.done()
            roles.heartbeat_s.set(1.0)
            assert await waiting is cast("RoleEdges", roles)

    asyncio.run(scenario())


def test_the_node_that_counts_is_the_newest() -> None:
    async def scenario() -> None:
        there, old, new = board(), Roles(), Roles()
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            waiting = group.create_task(wait_membership(there))
            there.roles.set(cast("RoleEdges", old))
            await asyncio.sleep(0)
            there.roles.set(cast("RoleEdges", new))
            for values in (new,):
                values.identity.set(object())
                values.roles.set(common_pb2.NodeRoles())
                values.heartbeat_s.set(1.0)
            assert await waiting is cast("RoleEdges", new)

    asyncio.run(scenario())


def test_roles_have_the_names_that_people_use() -> None:
    roles = common_pb2.NodeRoles()
    assert role_names(None) == ()
    roles.kubernetes_worker.SetInParent()
    roles.consensus_member.SetInParent()
    assert role_names(roles) == ("ConsensusMember", "KubernetesWorker")
