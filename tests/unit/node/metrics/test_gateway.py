# SPDX-License-Identifier: Apache-2.0
"""Who is answered on port 7840, and with what; no socket is opened."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from random import Random
from typing import Any, cast

import pytest

from metropolis.api import common_pb2, curator_pb2
from metropolis.api.authorization_pb2 import Permission
from metropolis.api.methods import Method
from metropolis.base.errors import (
    MetropolisError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.store import Membership, Store, StoreStatus
from metropolis.formats.exposition import decode
from metropolis.host.sim.clock import SimClock
from metropolis.host.sim.directory import SimDirectory
from metropolis.host.sim.disk import SimDisk
from metropolis.node.metrics.discovery import targets
from metropolis.node.metrics.edges import MetricsEdges
from metropolis.node.metrics.figures import MEMBER_S, ClusterView, CoreSources
from metropolis.node.metrics.gateway import ETCD, FRESH_S, Gateway
from metropolis.rpc.https import Answer, HttpRequest, HttpResponse
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.rpc.transport import Endpoint
from metropolis.sim import simulate
from metropolis.supervision import State
from unit.node.metrics.kernel_files import TextKernel

NODES: Mapping[str, curator_pb2.Node] = {}


class World:
    """Everything that a gateway touches."""

    def __init__(self) -> None:
        self.refusal: MetropolisError | None = None
        self.needs: tuple[int, ...] | None = ()
        self.asked: list[tuple[Endpoint, str]] = []
        self.etcd = HttpResponse(status=HTTPStatus.OK, content_type="text/plain", body=b"x 1\n")
        self.etcd_error: MetropolisError | None = None
        self.consensus: ConsensusStatus | None = None
        self.nodes: Mapping[str, curator_pb2.Node] | None = None
        self.edges = MetricsEdges(
            serve=_serve_nothing, get_local=self.get_local, kernel=TextKernel()
        )

    @property
    def ca_certificate(self) -> bytes | None:
        return None

    def authenticate(
        self, method: Method[Any, Any], certificate: bytes | None, address: str
    ) -> Peer:
        del certificate, address
        self.needs = method.needs
        if self.refusal is not None:
            raise self.refusal
        return Peer(kind=PeerKind.USER, identity="owner")

    async def get_local(self, endpoint: Endpoint, target: str) -> HttpResponse:
        self.asked.append((endpoint, target))
        if self.etcd_error is not None:
            raise self.etcd_error
        return self.etcd

    def gateway(self) -> Gateway:
        sources = CoreSources(
            node_id="metropolis-1",
            version="1.2.3",
            edges=self.edges,
            clock=SimClock(),
            storage=SimDirectory(SimDisk(rng=Random(1)), mount_point="/disk"),
            consensus=lambda: self.consensus,
            view=lambda: VIEW,
        )
        return Gateway(sources, authenticator=self, nodes=lambda: self.nodes)


VIEW = ClusterView(
    leads=False,
    knows_leader=True,
    leader_silence_s=None,
    heartbeat_age_s=3.5,
    roles=common_pb2.NodeRoles(),
    nodes=NODES,
    certificates={},
)


def _serve_nothing(
    endpoint: Endpoint,
    *,
    credentials: object,
    trusted_ca: Callable[[], bytes | None],
    answer: Answer,
) -> AbstractAsyncContextManager[None]:
    raise AssertionError((endpoint, credentials, trusted_ca, answer))


class Member:
    """A consensus member that describes itself, or hangs."""

    def __init__(self, *, hangs: bool = False) -> None:
        self._hangs = hangs

    async def status(self) -> StoreStatus:
        if self._hangs:
            await asyncio.Event().wait()
        return StoreStatus(
            revision=9,
            raft_term=2,
            raft_index=99,
            member_id=5,
            leader_id=0,
            is_learner=False,
            database_bytes=4096,
            errors=("NOSPACE",),
        )


def status_of(member: Member) -> ConsensusStatus:
    nobody = cast("Membership", None)
    return ConsensusStatus(store=cast("Store", member), membership=nobody, member_id=5)


def ask(world: World, target: str, method: str = "GET") -> HttpResponse:
    return run(lambda: world.gateway().answer(HttpRequest(method=method, target=target)))


def run(act: Callable[[], Awaitable[HttpResponse]]) -> HttpResponse:
    async def scenario() -> HttpResponse:
        return await act()

    return simulate(scenario, seed=1)


def figures(world: World) -> dict[str, float]:
    answer = ask(world, "/metrics/core")
    assert answer.status is HTTPStatus.OK
    return {
        family.name: family.samples[0].value
        for family in decode(answer.body.decode())
        if len(family.samples) == 1
    }


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (UnauthenticatedError("who are you?", remedy="Say."), HTTPStatus.UNAUTHORIZED),
        (PermissionDeniedError("not you"), HTTPStatus.FORBIDDEN),
        (UnavailableError("deaf"), HTTPStatus.SERVICE_UNAVAILABLE),
        (MetropolisError("broken"), HTTPStatus.INTERNAL_SERVER_ERROR),
    ],
)
@pytest.mark.parametrize("target", ["/metrics/core", "/discovery", "/nothing"])
def test_who_is_refused_learns_nothing_but_why(
    refusal: MetropolisError, status: HTTPStatus, target: str
) -> None:
    world = World()
    world.refusal = refusal
    answer = ask(world, target)
    assert answer.status is status
    assert answer.body.decode().startswith(str(refusal))
    assert world.asked == []


def test_a_request_needs_the_permission_to_read_the_cluster() -> None:
    world = World()
    ask(world, "/metrics/core")
    assert world.needs == (Permission.PERMISSION_READ_CLUSTER_STATUS,)


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_only_get_is_answered(method: str) -> None:
    assert ask(World(), "/metrics/core", method).status is HTTPStatus.METHOD_NOT_ALLOWED


def test_a_query_behind_the_path_does_not_matter() -> None:
    assert ask(World(), "/metrics/core?format=prometheus").status is HTTPStatus.OK


def test_etcd_is_asked_only_where_there_is_a_member() -> None:
    world = World()
    answer = ask(world, "/metrics/etcd")
    assert answer.status is HTTPStatus.BAD_GATEWAY
    assert answer.body.startswith(b"could not reach exporter: etcd: this node has no")
    assert world.asked == []
    world.consensus = status_of(Member())
    assert ask(world, "/metrics/etcd") == world.etcd
    assert world.asked == [(ETCD, "/metrics")]


def test_an_etcd_that_does_not_answer_is_not_reached() -> None:
    world = World()
    world.consensus = status_of(Member())
    world.etcd_error = UnavailableError("connection refused")
    answer = ask(world, "/metrics/etcd")
    assert (answer.status, answer.body) == (
        HTTPStatus.BAD_GATEWAY,
        b"could not reach exporter: etcd: connection refused\n",
    )
    world.etcd_error = None
    world.etcd = HttpResponse(status=HTTPStatus.NOT_FOUND, content_type="", body=b"")
    assert ask(world, "/metrics/etcd").status is HTTPStatus.BAD_GATEWAY


def test_scrapes_at_the_same_time_cost_one_and_later_ones_are_new() -> None:
    async def scenario() -> None:
        world = World()
        world.consensus = status_of(Member())
        gateway = world.gateway()
        request = HttpRequest(method="GET", target="/metrics/etcd")
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(gateway.answer(request))
        assert len(world.asked) == 1
        await asyncio.sleep(FRESH_S)
        await gateway.answer(request)
        assert len(world.asked) == 2

    simulate(scenario, seed=4)


def test_a_member_without_a_majority_is_seen_as_such() -> None:
    world = World()
    world.consensus = status_of(Member())
    found = figures(world)
    assert found["metropolis_consensus_member"] == 1
    assert found["metropolis_consensus_answers"] == 1
    assert found["metropolis_consensus_has_leader"] == 0
    assert found["metropolis_consensus_complaints"] == 1
    assert found["metropolis_heartbeat_age_seconds"] == 3.5


def test_a_member_that_hangs_holds_nothing_up_and_is_told() -> None:
    async def scenario() -> HttpResponse:
        world = World()
        world.consensus = status_of(Member(hangs=True))
        began_s = asyncio.get_running_loop().time()
        answer = await world.gateway().answer(HttpRequest(method="GET", target="/metrics/core"))
        assert asyncio.get_running_loop().time() - began_s <= MEMBER_S + 1
        return answer

    text = simulate(scenario, seed=5).body.decode().splitlines()
    assert "metropolis_consensus_answers 0" in text
    assert not any(line.startswith("metropolis_consensus_raft_index") for line in text)


def test_changes_of_state_are_counted_as_upstream_counts_them() -> None:
    world = World()
    for before, after in [
        (None, State.NEW),
        (State.NEW, State.HEALTHY),
        (State.HEALTHY, State.DEAD),
        (State.DEAD, State.NEW),
    ]:
        world.edges.tree.state_changed("root.x", before, after)
    text = ask(world, "/metrics/core").body.decode().splitlines()
    name = "monogon_supervisor_dn_state"
    assert f'{name}_total{{dn="root.x",state="NODE_STATE_NEW"}} 1' in text
    assert f'{name}_total{{dn="root.x",state="NODE_STATE_DEAD"}} 0' in text
    first = 'dn="root.x",old_state="NODE_STATE_DEAD",new_state="NODE_STATE_NEW"'
    assert f"{name}_transition_count{{{first}}} 2" in text


def a_node(node_id: str, address: str, **roles: bool) -> curator_pb2.Node:
    node = curator_pb2.Node(id=node_id)
    node.status.external_address = address
    for role, has in roles.items():
        if has:
            getattr(node.roles, role).SetInParent()
    return node


def test_discovery_tells_exactly_this() -> None:
    world = World()
    answer = ask(world, "/discovery")
    assert answer.status is HTTPStatus.SERVICE_UNAVAILABLE
    nodes = [
        a_node("metropolis-b", "10.0.0.3", consensus_member=True, kubernetes_worker=True),
        a_node("metropolis-a", "10.0.0.2", kubernetes_controller=True),
        a_node("metropolis-c", ""),
        a_node("metropolis-d", "fd00::4"),
    ]
    world.nodes = {node.id: node for node in nodes}
    answer = ask(world, "/discovery")
    assert (answer.status, answer.content_type) == (HTTPStatus.OK, "application/json")

    def entry(address: str, node_id: str, worker: str, controller: str, member: str) -> Any:
        return {
            "targets": [address],
            "labels": {
                "__meta_metropolis_node": node_id,
                "__meta_metropolis_role_kubernetes_worker": worker,
                "__meta_metropolis_role_kubernetes_controller": controller,
                "__meta_metropolis_role_consensus_member": member,
            },
        }

    assert json.loads(answer.body) == [
        entry("10.0.0.2", "metropolis-a", "false", "true", "false"),
        entry("10.0.0.3", "metropolis-b", "true", "false", "true"),
        entry("[fd00::4]", "metropolis-d", "false", "false", "false"),
    ]
    assert targets({}) == []
