# SPDX-License-Identifier: Apache-2.0
"""A channel to a cluster: from any one address, through changes of the leader, in virtual time."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any

import pytest

from metropolis.api import curator_pb2, management_pb2
from metropolis.api.methods import Method
from metropolis.api.rpc_curator import Curator, CuratorLocal
from metropolis.api.rpc_management import Management
from metropolis.base.errors import (
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from metropolis.host.sim.entropy import SimEntropy
from metropolis.pki.certificates import issue_ephemeral
from metropolis.pki.credentials import Credentials
from metropolis.pki.keys import generate_key
from metropolis.rpc.channel import ServerStream, Services, UnaryHandler
from metropolis.rpc.memory.network import MemoryNetwork
from metropolis.rpc.memory.transport import MemoryTransport
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.rpc.resolver import ClusterChannel
from metropolis.rpc.status import NodeDeletedError, NotLeaderError
from metropolis.rpc.transport import Endpoint, ServerVerifier
from metropolis.sim import simulate
from metropolis.supervision.value import Value

PORT = 7835
CLIENT_ADDRESS = "10.0.0.200"
ASK = management_pb2.GetClusterInfoRequest()
log = logging.getLogger("test")


def credentials(seed: int) -> Credentials:
    key = generate_key(SimEntropy(seed))
    return Credentials(certificate=issue_ephemeral(key), key=key)


def accept_any(_certificate: bytes) -> None:
    """Verify nothing."""


class Everybody:
    """Admits all calls."""

    ca_certificate: bytes | None = None

    def authenticate(self, _method: Method[Any, Any], certificate: bytes | None, at: str) -> Peer:
        return Peer(kind=PeerKind.ANONYMOUS, address=at, certificate=certificate or b"")


class Cluster:
    """Nodes 1..n at 10.0.0.<n>, each of which knows who leads, unless it is told not to."""

    def __init__(self, seed: int) -> None:
        self.network = MemoryNetwork(Random(seed))
        self.rng = Random(seed)
        self.leader: Value[int] = Value(0)
        self.answered: list[int] = []  # which node answered, call by call
        self.lets_watch = True
        self.tells_host = True
        self.members: Value[tuple[int, ...]] = Value(())
        self.told_of: dict[int, int] = {}  # whom a node takes for the leader, whoever is
        self.extra = Services()
        self._up: dict[int, AsyncExitStack] = {}

    @asynccontextmanager
    async def running(self, *nodes: int, leader: int) -> AsyncIterator["Cluster"]:
        self.leader.set(leader)
        self.members.set(nodes)
        for node in nodes:
            await self.start(node)
        try:
            yield self
        finally:
            for node in list(self._up):
                await self.stop(node)

    async def start(self, node: int) -> None:
        stack = AsyncExitStack()
        await stack.enter_async_context(
            MemoryTransport(self.network, f"10.0.0.{node}").serve(
                at(node),
                credentials=credentials(node),
                services=self._services(node),
                authenticator=Everybody(),
            )
        )
        self._up[node] = stack

    async def stop(self, node: int) -> None:
        await self._up.pop(node).aclose()

    @asynccontextmanager
    async def alone(
        self, method: Method[Any, Any], handler: UnaryHandler[Any, Any]
    ) -> AsyncIterator[ClusterChannel]:
        """A cluster of node 1, which also serves `method`, and a channel to it."""
        self.extra.unary(method, handler)
        async with self.running(1, leader=1), self.channel(1) as channel:
            yield channel

    def channel(
        self,
        *seeds: int,
        verify: ServerVerifier = accept_any,
        follows_members: bool = True,
        overrides: dict[str, Endpoint] | None = None,
    ) -> ClusterChannel:
        return ClusterChannel(
            MemoryTransport(self.network, CLIENT_ADDRESS),
            [at(seed) for seed in seeds],
            credentials=None,
            verify=verify,
            rng=self.rng,
            overrides=overrides,
            follows_members=follows_members,
            log=log,
        )

    def _services(self, node: int) -> Services:
        services = Services()
        services.stream(CuratorLocal.GET_CURRENT_LEADER, lambda stream: self._tell(node, stream))
        services.stream(Curator.WATCH, lambda stream: self._watch(node, stream))

        async def answer(
            _request: management_pb2.GetClusterInfoRequest, _peer: Peer
        ) -> management_pb2.GetClusterInfoResponse:
            self._insist_on_leading(node)
            self.answered.append(node)
            return management_pb2.GetClusterInfoResponse(ca_certificate=b"node %d" % node)

        services.unary(Management.GET_CLUSTER_INFO, answer)
        services.include(self.extra)
        return services

    async def _tell(self, node: int, stream: ServerStream[Any, Any]) -> None:
        watch = self.leader.watch()
        while True:
            leader = await watch.receive()
            if node in self.told_of:
                leader = self.told_of[node]
            if not leader:
                raise UnavailableError("no leader")
            await stream.send(
                curator_pb2.GetCurrentLeaderResponse(
                    leader_node_id=name(leader),
                    leader_host=f"10.0.0.{leader}" if self.tells_host else "",
                    leader_port=PORT if self.tells_host else 0,
                    this_node_id=name(node),
                )
            )

    async def _watch(self, node: int, stream: ServerStream[Any, Any]) -> None:
        self._insist_on_leading(node)
        if not self.lets_watch:
            raise PermissionDeniedError("not you")
        watch = self.members.watch()
        while True:
            event = curator_pb2.WatchEvent(progress=curator_pb2.WatchEvent.PROGRESS_LAST_BACKLOGGED)
            for member in await watch.receive():
                one = event.nodes.add(id=name(member))
                one.status.external_address = f"10.0.0.{member}"
                one.status.running_curator.port = PORT
            await stream.send(event)

    def _insist_on_leading(self, node: int) -> None:
        leader = self.leader.current
        if leader != node:
            raise NotLeaderError(
                leader_id=name(leader) if leader else "",
                leader_host=f"10.0.0.{leader}" if leader else "",
            )


def at(node: int) -> Endpoint:
    return Endpoint(f"10.0.0.{node}", PORT)


def name(node: int) -> str:
    return f"metropolis-{node:032x}"


async def ask(channel: ClusterChannel, timeout_s: float = 10.0) -> bytes:
    answer = await channel.call(Management.GET_CLUSTER_INFO, ASK, timeout_s=timeout_s)
    return answer.ca_certificate


async def watch_once(channel: ClusterChannel) -> None:
    async with channel.open(Curator.WATCH) as stream:
        await stream.send(curator_pb2.WatchRequest())
        await stream.receive()


def run(scenario: Callable[[Cluster], Awaitable[None]], seed: int = 1) -> None:
    simulate(lambda: scenario(Cluster(seed)), seed=seed)


@pytest.mark.parametrize("seed_node", [1, 2, 3])
def test_any_one_node_leads_to_the_leader(seed_node: int) -> None:
    async def scenario(cluster: Cluster) -> None:
        async with cluster.running(1, 2, 3, leader=2), cluster.channel(seed_node) as channel:
            assert await ask(channel) == b"node 2"

    run(scenario)


@pytest.mark.parametrize("seed", range(5))
def test_calls_follow_the_leader_when_it_dies(seed: int) -> None:
    async def scenario(cluster: Cluster) -> None:
        loop = asyncio.get_running_loop()
        async with cluster.running(1, 2, 3, leader=1), cluster.channel(1) as channel:
            assert await ask(channel) == b"node 1"
            await asyncio.sleep(1)  # the other members are learned, node 1 was the only seed
            await cluster.stop(1)
            cluster.leader.set(3)
            await asyncio.sleep(0.1)  # a call into a dying connection may have been executed
            begun_s = loop.time()
            assert await ask(channel) == b"node 3"
            assert loop.time() - begun_s < 3

    run(scenario, seed)


def test_a_former_leader_that_still_answers_sends_callers_on_within_the_same_call() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.told_of = {1: 1, 2: 1}  # the news reach nobody
        async with cluster.running(1, 2, leader=1), cluster.channel(1) as channel:
            assert await ask(channel) == b"node 1"
            cluster.leader.set(2)
            assert await ask(channel, timeout_s=1.0) == b"node 2"
            assert cluster.answered == [1, 2]

    run(scenario)


def test_a_call_waits_for_the_election_within_its_timeout() -> None:
    async def scenario(cluster: Cluster) -> None:
        async with cluster.running(1, 2, leader=0), cluster.channel(1, 2) as channel:

            async def elect() -> None:
                await asyncio.sleep(4)
                cluster.leader.set(2)

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(elect())
                assert await ask(channel, timeout_s=10) == b"node 2"

    run(scenario)


def test_without_a_leader_a_call_fails_at_its_timeout_and_says_what_was_tried() -> None:
    async def scenario(cluster: Cluster) -> None:
        loop = asyncio.get_running_loop()
        async with cluster.running(1, leader=0), cluster.channel(1, 9) as channel:
            begun_s = loop.time()
            with pytest.raises(UnavailableError) as caught:
                await ask(channel, timeout_s=7)
            assert loop.time() - begun_s == pytest.approx(7)
            assert "10.0.0.1:7835 (no leader)" in str(caught.value)
            assert "10.0.0.9:7835 (" in str(caught.value)
            assert caught.value.remedy

    run(scenario)


def test_a_cluster_that_is_not_the_expected_one_is_refused_at_once() -> None:
    def refuse(_certificate: bytes) -> None:
        raise UnauthenticatedError("another cluster", remedy="Check the address.")

    async def scenario(cluster: Cluster) -> None:
        loop = asyncio.get_running_loop()
        async with (
            cluster.running(1, 2, leader=1),
            cluster.channel(1, 2, verify=refuse) as channel,
        ):
            with pytest.raises(UnauthenticatedError, match="another cluster") as caught:
                await ask(channel, timeout_s=60)
            assert loop.time() < 5
            assert caught.value.remedy == "Check the address."

    run(scenario)


def test_an_error_of_the_handler_is_the_callers_and_never_repeated() -> None:
    asked: list[int] = []

    async def scenario(cluster: Cluster) -> None:
        async def refuse(_request: Any, _peer: Peer) -> Any:
            asked.append(1)
            raise UnavailableError("the store does not answer", remedy="Wait.")

        async with cluster.alone(Management.APPROVE_NODE, refuse) as channel:
            with pytest.raises(UnavailableError, match="the store does not answer"):
                await channel.call(Management.APPROVE_NODE, management_pb2.ApproveNodeRequest())

    run(scenario)
    assert asked == [1]


def test_a_call_that_may_have_been_executed_is_not_repeated() -> None:
    begun: list[int] = []

    async def scenario(cluster: Cluster) -> None:
        async def hang_up(_request: Any, _peer: Peer) -> Any:
            begun.append(1)
            cluster.network.reset_connections("10.0.0.1")
            await asyncio.Event().wait()

        async with cluster.alone(Management.DELETE_NODE, hang_up) as channel:
            with pytest.raises(UnavailableError):
                await channel.call(Management.DELETE_NODE, management_pb2.DeleteNodeRequest())

    run(scenario)
    assert begun == [1]


def test_members_are_learned_and_asked_after_the_seeds_are_gone() -> None:
    async def scenario(cluster: Cluster) -> None:
        async with cluster.running(1, 2, 3, leader=2), cluster.channel(1) as channel:
            assert await ask(channel) == b"node 2"
            await asyncio.sleep(1)
            await cluster.stop(1)
            await asyncio.sleep(1)
            await cluster.stop(2)
            cluster.leader.set(3)
            await asyncio.sleep(1)
            assert await ask(channel) == b"node 3"

    run(scenario)


def test_a_caller_that_may_not_watch_goes_on_with_its_seeds() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.lets_watch = False
        async with cluster.running(1, 2, leader=2), cluster.channel(1) as channel:
            assert await ask(channel) == b"node 2"
            await asyncio.sleep(100)
            assert await ask(channel) == b"node 2"

    run(scenario)


def test_an_override_replaces_where_a_node_says_it_is() -> None:
    async def scenario(cluster: Cluster) -> None:
        loopback = Endpoint("127.0.0.1", PORT)
        async with cluster.running(1, 2, leader=2):
            async with cluster.channel(1, overrides={name(2): loopback}) as channel:
                with pytest.raises(UnavailableError, match="nothing listens"):
                    await ask(channel, timeout_s=2)
                assert channel.leader == loopback
            async with cluster.channel(1, overrides={name(2): at(2)}) as channel:
                cluster.tells_host = False
                assert await ask(channel) == b"node 2"

    run(scenario)


def test_a_candidate_whose_leader_cannot_be_reached_is_left_for_one_that_knows_better() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.told_of[1] = 9  # which is gone for ever; node 1 has not noticed
        async with cluster.running(1, 2, leader=2):
            async with cluster.channel(1, 2, follows_members=False) as channel:
                assert await ask(channel) == b"node 2"
            async with cluster.channel(1, 2, follows_members=False) as channel:
                with pytest.raises(UnavailableError):
                    await ask(channel, timeout_s=0.01)
                await watch_once(channel)

    run(scenario)


def test_a_call_stops_connecting_to_a_leader_that_has_a_successor() -> None:
    async def scenario(cluster: Cluster) -> None:
        loop = asyncio.get_running_loop()
        async with (
            cluster.running(1, 2, leader=2),
            cluster.channel(1, follows_members=False) as channel,
            asyncio.TaskGroup() as group,
        ):
            cluster.network.power_off("10.0.0.2")  # attempts to connect are not even refused
            begun_s = loop.time()
            answer = group.create_task(ask(channel))
            await asyncio.sleep(2)
            assert not answer.done()
            cluster.leader.set(1)
            assert await answer == b"node 1"
            assert loop.time() - begun_s < 4

    run(scenario)


def test_a_wrong_hint_is_forgotten_when_whom_it_names_leads_nobody() -> None:
    """Node 1 knows all the time that node 2 leads, and says so once; node 2 is late to know."""

    async def scenario(cluster: Cluster) -> None:
        hints = [NotLeaderError(leader_id=name(3), leader_host="10.0.0.3")]

        async def tell(stream: Any) -> None:
            await stream.send(
                curator_pb2.GetCurrentLeaderResponse(
                    leader_node_id=name(2), leader_host="10.0.0.2", leader_port=PORT
                )
            )
            await asyncio.sleep(1000)

        async def of_node_2(_request: Any, _peer: Peer) -> management_pb2.GetClusterInfoResponse:
            if hints:
                raise hints.pop()
            return management_pb2.GetClusterInfoResponse(ca_certificate=b"node 2")

        async def of_node_3(_request: Any, _peer: Peer) -> management_pb2.GetClusterInfoResponse:
            raise NotLeaderError

        async with AsyncExitStack() as stack:
            for node in (1, 2, 3):
                services = Services()
                if node == 1:
                    services.stream(CuratorLocal.GET_CURRENT_LEADER, tell)
                else:
                    answer = of_node_2 if node == 2 else of_node_3
                    services.unary(Management.GET_CLUSTER_INFO, answer)
                serving = MemoryTransport(cluster.network, f"10.0.0.{node}").serve(
                    at(node),
                    credentials=credentials(node),
                    services=services,
                    authenticator=Everybody(),
                )
                await stack.enter_async_context(serving)
            async with cluster.channel(1, follows_members=False) as channel:
                assert await ask(channel) == b"node 2"

    run(scenario)


def test_a_node_does_not_believe_itself_that_somebody_else_leads() -> None:
    async def scenario(cluster: Cluster) -> None:
        async with (
            cluster.running(1, 2, leader=1),
            cluster.channel(1, 2, overrides={name(1): at(1)}) as channel,
        ):
            assert await ask(channel) == b"node 1"
            cluster.told_of[1] = 9  # as a node repeats what this very channel found
            cluster.leader.set(2)
            await asyncio.sleep(1)
            assert await ask(channel) == b"node 2"

    run(scenario)


def test_one_candidate_suffices_to_learn_that_this_node_was_deleted() -> None:
    async def scenario(cluster: Cluster) -> None:
        async def refuse(stream: Any) -> None:
            await stream.receive()
            raise NodeDeletedError("forgotten")

        services = Services()
        services.stream(CuratorLocal.GET_CURRENT_LEADER, refuse)
        serving = MemoryTransport(cluster.network, "10.0.0.2").serve(
            at(2), credentials=credentials(2), services=services, authenticator=Everybody()
        )
        async with cluster.running(1, leader=0), serving, cluster.channel(1, 2) as channel:
            with pytest.raises(NodeDeletedError, match="forgotten"):
                await ask(channel)

    run(scenario)


def test_a_candidate_that_says_nothing_is_passed_over() -> None:
    async def scenario(cluster: Cluster) -> None:
        async def be_silent(_stream: Any) -> None:
            await asyncio.Event().wait()

        services = Services()
        services.stream(CuratorLocal.GET_CURRENT_LEADER, be_silent)
        async with (
            cluster.running(2, leader=2),
            MemoryTransport(cluster.network, "10.0.0.1").serve(
                at(1), credentials=credentials(1), services=services, authenticator=Everybody()
            ),
            cluster.channel(1, 2) as channel,
        ):
            assert await ask(channel) == b"node 2"

    run(scenario)


def test_a_candidate_that_answers_and_hangs_up_is_not_asked_without_pause() -> None:
    answers: list[float] = []

    async def scenario(cluster: Cluster) -> None:
        async def answer_and_leave(stream: Any) -> None:
            answers.append(asyncio.get_running_loop().time())
            await stream.send(
                curator_pb2.GetCurrentLeaderResponse(
                    leader_node_id=name(1), leader_host="10.0.0.1", leader_port=PORT
                )
            )

        services = Services()
        services.stream(CuratorLocal.GET_CURRENT_LEADER, answer_and_leave)
        async with (
            MemoryTransport(cluster.network, "10.0.0.1").serve(
                at(1), credentials=credentials(1), services=services, authenticator=Everybody()
            ),
            cluster.channel(1, follows_members=False),
        ):
            await asyncio.sleep(30)

    run(scenario)
    assert 10 < len(answers) < 130


def test_a_stream_waits_for_the_leader_and_ends_when_it_resigns() -> None:
    async def scenario(cluster: Cluster) -> None:
        async with cluster.running(1, 2, leader=1), cluster.channel(2) as channel:
            everybody = curator_pb2.WatchRequest.NodesInCluster()
            async with channel.open(Curator.WATCH) as stream:
                await stream.send(curator_pb2.WatchRequest(nodes_in_cluster=everybody))
                event = await stream.receive()
                assert event is not None
                assert [node.id for node in event.nodes] == [name(1), name(2)]
                await cluster.stop(1)
                with pytest.raises(UnavailableError):
                    await stream.receive()

    run(scenario)


def test_a_stream_that_a_follower_refused_teaches_who_leads() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.told_of = {1: 1}
        async with (
            cluster.running(1, 2, leader=1),
            cluster.channel(1, follows_members=False) as channel,
        ):
            assert await ask(channel) == b"node 1"
            cluster.leader.set(2)
            with pytest.raises(NotLeaderError):
                await watch_once(channel)
            assert channel.leader == at(2)

    run(scenario)


def test_the_blocks_own_error_leaves_it_unwrapped() -> None:
    async def scenario(cluster: Cluster) -> None:
        async with cluster.running(1, leader=1):
            with pytest.raises(NotFoundError):
                async with cluster.channel(1):
                    raise NotFoundError("mine")

    run(scenario)


def test_a_channel_whose_block_ended_dials_nobody_any_more() -> None:
    async def scenario(cluster: Cluster) -> None:
        async with cluster.running(1, leader=1):
            async with cluster.channel(1) as channel:
                await ask(channel)
            with pytest.raises(UnavailableError, match="closed"):
                await ask(channel)

    run(scenario)


def test_cancelling_the_block_cancels_its_searches_and_closes_its_channels() -> None:
    async def scenario(cluster: Cluster) -> None:
        async def use() -> None:
            async with cluster.channel(1) as channel:
                await ask(channel)
                await asyncio.Event().wait()

        async with cluster.running(1, leader=1):
            before = len(asyncio.all_tasks())
            task = asyncio.get_running_loop().create_task(use())
            await asyncio.sleep(5)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await asyncio.sleep(1)
            assert len(asyncio.all_tasks()) == before

    run(scenario)


@pytest.mark.parametrize("seed", range(20))
def test_a_client_of_one_address_works_through_a_random_history(seed: int) -> None:
    async def scenario(cluster: Cluster) -> None:
        rng = Random(seed)
        loop = asyncio.get_running_loop()
        async with cluster.running(1, 2, 3, leader=1), cluster.channel(1) as channel:
            await ask(channel)
            await asyncio.sleep(1)
            for _ in range(10):
                old = cluster.leader.current
                new = rng.choice([node for node in (1, 2, 3) if node != old])
                await cluster.stop(old)
                cluster.leader.set(0)
                await asyncio.sleep(rng.uniform(0, 5))
                cluster.leader.set(new)
                begun_s = loop.time()
                assert await ask(channel, timeout_s=30) == b"node %d" % new
                assert loop.time() - begun_s < 12
                await cluster.start(old)

    run(scenario, seed)
