# SPDX-License-Identifier: Apache-2.0
"""Several control planes over certificates and a network: who answers, who refuses, who knows."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.message import Message

from contract.cluster.rack import Rack, Site, eventually, run, three_members
from metropolis.api import curator_pb2 as curator_api
from metropolis.api import management_pb2 as api
from metropolis.api.introspection_pb2 import ExplainNodeRequest
from metropolis.api.methods import Method
from metropolis.api.rpc_curator import Curator, CuratorLocal
from metropolis.api.rpc_introspection import Introspection
from metropolis.api.rpc_management import Management
from metropolis.base.errors import (
    MetropolisError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from metropolis.cluster.office import LeaderHint
from metropolis.cluster.state import keys
from metropolis.rpc.channel import ClientStream
from metropolis.rpc.status import NotLeaderError

WATCH_ALL = curator_api.WatchRequest(nodes_in_cluster=curator_api.WatchRequest.NodesInCluster())


async def current_leader(made: Rack, site: Site) -> curator_api.GetCurrentLeaderResponse:
    async with made.dial(site).open(CuratorLocal.GET_CURRENT_LEADER) as call:
        await call.send(curator_api.GetCurrentLeaderRequest())
        answer = await call.receive()
        assert answer is not None
        return answer


async def drained(
    call: ClientStream[curator_api.WatchRequest, curator_api.WatchEvent],
) -> None:
    """Read until the server ends the stream."""
    while await call.receive() is not None:
        pass


def test_a_cluster_of_one_is_owned_and_grows_to_three() -> None:
    async def scenario(made: Rack) -> None:
        first, second, third = await three_members(made)
        assert {node.id for node in await made.list(first)} == {
            site.node_id for site in (first, second, third)
        }
        status = await made.dial(first).call(
            Curator.GET_CONSENSUS_STATUS, curator_api.GetConsensusStatusRequest()
        )
        full = curator_api.GetConsensusStatusResponse.EtcdMember.STATUS_FULL
        assert [member.status for member in status.etcd_member] == [full] * 3
        for site in made.sites:
            answer = await current_leader(made, site)
            assert answer == curator_api.GetCurrentLeaderResponse(
                leader_node_id=first.node_id,
                leader_host=first.address,
                leader_port=7835,
                this_node_id=site.node_id,
            )
            ca = await made.dial(site).call(
                CuratorLocal.GET_CA_CERTIFICATE, curator_api.GetCACertificateRequest()
            )
            assert ca.identity_ca_certificate == made.ca
        explained = await made.dial(first).call(Introspection.EXPLAIN_NODE, ExplainNodeRequest())
        assert explained.node.id == first.node_id

    run(scenario)


def test_a_follower_names_the_leader_instead_of_answering() -> None:
    async def scenario(made: Rack) -> None:
        first, second, _ = await three_members(made)
        with pytest.raises(NotLeaderError) as caught:
            await made.list(second)
        assert caught.value.leader_id == first.node_id
        assert caught.value.leader_host == first.address

    run(scenario)


def test_a_node_that_is_no_member_passes_on_who_leads() -> None:
    async def scenario(made: Rack) -> None:
        first = made.sites[0]
        second = await made.enrol(first)
        with pytest.raises(UnavailableError):
            await current_leader(made, second)
        second.relay.set(LeaderHint(node_id=first.node_id, host=first.address))
        answer = await current_leader(made, second)
        assert (answer.leader_node_id, answer.leader_host) == (first.node_id, first.address)
        assert answer.this_node_id == second.node_id
        with pytest.raises(NotLeaderError) as caught:
            await made.list(second)
        assert caught.value.leader_id == first.node_id

    run(scenario)


@pytest.mark.parametrize("seed", range(5))
def test_another_node_leads_soon_after_the_leader_lost_power(seed: int) -> None:
    async def scenario(made: Rack) -> None:
        first, second, third = await three_members(made)
        before = {node.id for node in await made.list(first)}
        loop = asyncio.get_running_loop()
        async with made.dial(second).open(CuratorLocal.GET_CURRENT_LEADER) as call:
            await call.send(curator_api.GetCurrentLeaderRequest())
            answer = await call.receive()
            assert answer is not None
            assert answer.leader_node_id == first.node_id
            killed_s = loop.time()
            await made.kill(first)
            with suppress(MetropolisError):
                answer = await call.receive()  # the change, or the end of the stream
                assert answer is None or answer.leader_node_id != first.node_id
        leader = await made.leader_among(second, third)
        assert loop.time() - killed_s < 10
        assert {node.id for node in await made.list(leader)} == before
        answer = await current_leader(made, second)
        assert answer.leader_node_id == leader.node_id

    run(scenario, seed=seed)


@pytest.mark.parametrize("seed", range(5))
def test_a_leader_cut_off_from_the_consensus_ends_what_it_serves(seed: int) -> None:
    async def scenario(made: Rack) -> None:
        first, second, third = await three_members(made)
        node = made.dial(first, second.credentials)
        async with (
            made.dial(first).open(Curator.WATCH) as watching,
            node.open(Curator.HEARTBEAT) as beating,
        ):
            await watching.send(WATCH_ALL)
            assert await watching.receive() is not None
            await beating.send(curator_api.HeartbeatRequest())
            assert await beating.receive() is not None
            cut_s = asyncio.get_running_loop().time()
            made.cluster.isolate(first.member_id)
            with pytest.raises(UnavailableError):
                await drained(watching)
            with pytest.raises(UnavailableError):
                await beating.receive()
            assert asyncio.get_running_loop().time() - cut_s < 4
        leader = await made.leader_among(second, third)
        with pytest.raises(UnavailableError):
            await made.list(first)
        await made.dial(leader).call(
            Management.UPDATE_NODE_LABELS,
            api.UpdateNodeLabelsRequest(id=first.node_id, delete=["none"]),
        )
        made.cluster.heal()
        await asyncio.sleep(5)
        assert (await current_leader(made, first)).leader_node_id == leader.node_id

    run(scenario, seed=seed)


def test_the_port_stays_bound_whoever_leads() -> None:
    """The original closes it at every change, and with it every connection."""

    async def scenario(made: Rack) -> None:
        first, second, third = await three_members(made)
        made.cluster.isolate(first.member_id)
        await made.leader_among(second, third)
        made.cluster.heal()
        await asyncio.sleep(5)
        assert (await current_leader(made, first)).leader_node_id != first.node_id
        for site in made.sites:
            assert site.supervisor is not None
            restarts = {dn: status.restarts for dn, status in site.supervisor.states().items()}
            assert restarts == {"root": 0, "root.listener": 0, "root.candidate": 0}

    run(scenario)


def test_a_deleted_node_is_refused_at_once_and_its_streams_are_closed() -> None:
    async def scenario(made: Rack) -> None:
        first = made.sites[0]
        second = await made.enrol(first)
        node = made.dial(first, second.credentials)
        async with node.open(Curator.WATCH) as watching:
            await watching.send(WATCH_ALL)
            assert await watching.receive() is not None
            await made.dial(first).call(
                Management.DELETE_NODE,
                api.DeleteNodeRequest(
                    id=second.node_id,
                    safety_bypass_not_decommissioned=(
                        api.DeleteNodeRequest.SafetyBypassNotDecommissioned()
                    ),
                ),
            )
            deleted_s = asyncio.get_running_loop().time()
            with pytest.raises(MetropolisError):
                await drained(watching)
            assert asyncio.get_running_loop().time() - deleted_s < 1
        with pytest.raises(UnauthenticatedError, match="the node was deleted"):
            await made.report(second, first)
        with pytest.raises(UnauthenticatedError, match="the node was deleted"):
            await made.dial(first, second.credentials).call(
                Management.GET_CLUSTER_INFO, api.GetClusterInfoRequest()
            )

    run(scenario)


def test_a_deleted_node_is_refused_by_the_next_leader_too() -> None:
    async def scenario(made: Rack) -> None:
        first, second, third = await three_members(made)
        fourth = await made.enrol(first)
        await made.dial(first).call(
            Management.DELETE_NODE,
            api.DeleteNodeRequest(
                id=fourth.node_id,
                safety_bypass_not_decommissioned=(
                    api.DeleteNodeRequest.SafetyBypassNotDecommissioned()
                ),
            ),
        )
        await made.kill(first)
        leader = await made.leader_among(second, third)
        with pytest.raises(UnauthenticatedError):
            await made.report(fourth, leader)

    run(scenario)


def test_a_node_may_do_what_nodes_may_and_nothing_else() -> None:
    async def scenario(made: Rack) -> None:
        first = made.sites[0]
        second = await made.enrol(first)
        node = made.dial(first, second.credentials)
        await node.call(Management.GET_CLUSTER_INFO, api.GetClusterInfoRequest())
        refused: tuple[tuple[Method[Any, Any], Message], ...] = (
            (Management.GET_REGISTER_TICKET, api.GetRegisterTicketRequest()),
            (Management.APPROVE_NODE, api.ApproveNodeRequest()),
            (Management.UPDATE_NODE_ROLES, api.UpdateNodeRolesRequest()),
            (Management.DELETE_NODE, api.DeleteNodeRequest()),
            (Management.DECOMMISSION_NODE, api.DecommissionNodeRequest()),
            (Management.UPDATE_NODE_LABELS, api.UpdateNodeLabelsRequest()),
            (Management.CONFIGURE_CLUSTER, api.ConfigureClusterRequest()),
        )
        for method, request in refused:
            with pytest.raises(PermissionDeniedError, match="node missing PERMISSION_"):
                await node.call(method, request)
        stranger = made.dial_as_stranger(first, second.key)
        with pytest.raises(UnauthenticatedError):
            await stranger.call(Management.GET_CLUSTER_INFO, api.GetClusterInfoRequest())

    run(scenario)


def test_a_node_that_loses_its_member_stops_leading_and_comes_back() -> None:
    async def scenario(made: Rack) -> None:
        first = made.sites[0]
        await made.list(first)
        status = first.consensus.current
        first.consensus.set(None)
        await asyncio.sleep(0.1)
        with pytest.raises(UnavailableError):
            await made.list(first)
        first.consensus.set(status)
        await eventually(lambda: made.list(first))

    run(scenario)


def test_nobody_leads_before_it_knows_every_node() -> None:
    """Or it would take a node that it has not read yet for one that was deleted."""

    async def scenario(made: Rack) -> None:
        first = made.sites[0]
        second = await made.enrol(first)
        status = first.consensus.current
        assert status is not None
        store = status.store

        class Sluggish:
            """Takes its time to list the nodes."""

            def __getattr__(self, name: str) -> object:
                return getattr(store, name)

            async def range(self, prefix: bytes, **options: Any) -> object:
                if prefix == keys.NODES:
                    await asyncio.sleep(5)
                return await store.range(prefix, **options)

        first.consensus.set(replace(status, store=Sluggish()))  # type: ignore[arg-type]
        started_s = asyncio.get_running_loop().time()
        await eventually(lambda: made.report(second, first))
        assert 4 < asyncio.get_running_loop().time() - started_s < 8

    run(scenario)


@pytest.mark.parametrize("seed", range(3))
def test_what_was_acknowledged_is_there_under_every_next_leader(seed: int) -> None:
    async def scenario(made: Rack) -> None:
        sites = await three_members(made)
        alive = list(sites)
        first = sites[0]
        for round_ in range(4):
            leader = await made.leader_among(*alive)
            key = f"round-{round_}"
            request = api.UpdateNodeLabelsRequest(id=first.node_id)
            request.upsert.add(key=key, value="x")
            await made.dial(leader).call(Management.UPDATE_NODE_LABELS, request)
            (shown,) = [n for n in await made.list(leader) if n.id == first.node_id]
            assert key in {pair.key for pair in shown.labels.pairs}
            made.cluster.isolate(leader.member_id)
            others = [site for site in alive if site is not leader]
            successor = await made.leader_among(*others)
            (shown,) = [n for n in await made.list(successor) if n.id == first.node_id]
            assert key in {pair.key for pair in shown.labels.pairs}
            made.cluster.heal()
            await asyncio.sleep(6)

    run(scenario, seed=seed)
