# SPDX-License-Identifier: Apache-2.0
"""Following the leader over real connections: three servers, any one address."""

import asyncio
from contextlib import AsyncExitStack
from random import Random
from typing import Any

import pytest

from contract.rpc import kit
from metropolis.api import curator_pb2, management_pb2
from metropolis.api.rpc_curator import CuratorLocal
from metropolis.api.rpc_management import Management
from metropolis.base.errors import UnavailableError
from metropolis.rpc.channel import Services
from metropolis.rpc.peer import Peer
from metropolis.rpc.resolver import ClusterChannel
from metropolis.rpc.status import NotLeaderError
from metropolis.supervision.value import Value


class Trio:
    """Three nodes on one address; `leader` is the number of the one that leads."""

    def __init__(self) -> None:
        self.leader: Value[int] = Value(0)
        self.here: list[kit.Kit] = []

    def services(self, number: int) -> Services:
        async def tell(stream: Any) -> None:
            watch = self.leader.watch()
            while True:
                leader = await watch.receive()
                endpoint = self.here[leader].server.endpoint
                await stream.send(
                    curator_pb2.GetCurrentLeaderResponse(
                        leader_node_id=f"node {leader}",
                        leader_host=endpoint.host,
                        leader_port=endpoint.tcp_port,
                        this_node_id=f"node {number}",
                    )
                )

        async def answer(
            _request: management_pb2.GetClusterInfoRequest, _peer: Peer
        ) -> management_pb2.GetClusterInfoResponse:
            if self.leader.current != number:
                raise NotLeaderError
            return management_pb2.GetClusterInfoResponse(ca_certificate=b"%d" % number)

        services = Services()
        services.stream(CuratorLocal.GET_CURRENT_LEADER, tell)
        services.unary(Management.GET_CLUSTER_INFO, answer)
        return services


@pytest.mark.parametrize("loop", kit.LOOPS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_any_one_address_works_before_during_and_after_a_change(loop: str, seed: int) -> None:
    async def scenario() -> None:
        trio = Trio()
        async with AsyncExitStack() as stack:
            nodes = [AsyncExitStack() for _ in range(3)]
            for number, node in enumerate(nodes):
                await stack.enter_async_context(node)
                serving = kit.serving(services=trio.services(number))
                trio.here.append(await node.enter_async_context(serving))
            async with ClusterChannel(
                trio.here[0].transport,
                [trio.here[seed].server.endpoint],
                credentials=kit.OWNER,
                verify=kit.OF_THIS_CLUSTER,
                rng=Random(1),
            ) as channel:
                assert await ask(channel) == b"0"
                trio.leader.set(1)  # the news and the calls overtake one another
                for _ in range(20):
                    assert await ask(channel) == b"1"
                others = [number for number in (0, 2) if number != seed]
                await nodes[others[0]].aclose()
                assert await ask(channel) == b"1"
                if seed != 1:  # the leader dies, and with it every connection to it
                    await nodes[1].aclose()
                    with pytest.raises(UnavailableError):
                        await ask(channel, timeout_s=0.5)
                    trio.leader.set(seed)
                    assert await ask(channel) == b"%d" % seed

    async def ask(channel: ClusterChannel, timeout_s: float = 10.0) -> bytes:
        request = management_pb2.GetClusterInfoRequest()
        answer = await channel.call(Management.GET_CLUSTER_INFO, request, timeout_s=timeout_s)
        return answer.ca_certificate

    kit.run(scenario, loop)


def test_a_bug_in_the_search_ends_the_block() -> None:
    async def scenario() -> None:
        def explode(_certificate: bytes) -> None:
            raise AssertionError

        async with kit.serving() as here:
            channel = ClusterChannel(
                here.transport,
                [here.server.endpoint],
                credentials=None,
                verify=kit.OF_THIS_CLUSTER,
                rng=Random(1),
            )
            channel._search._listen = explode  # type: ignore[assignment]
            with pytest.raises(ExceptionGroup):
                async with channel:
                    await asyncio.Event().wait()

    kit.run(scenario)
