# SPDX-License-Identifier: Apache-2.0
"""What members tell the cluster and ask of it."""

import asyncio
import base64
from datetime import UTC

import pytest

from metropolis.api.common_pb2 import NodeClusterNetworking, NodeStatus
from metropolis.api.curator_pb2 import (
    HeartbeatRequest,
    HeartbeatResponse,
    IssueCertificateRequest,
    UpdateNodeClusterNetworkingRequest,
    UpdateNodeStatusRequest,
)
from metropolis.api.management_pb2 import Node
from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnimplementedError,
)
from metropolis.cluster.services import curator
from metropolis.rpc.peer import Peer
from unit.cluster.harness import FIRST, OWNER, Bench, Call, Machine, ended, machine, run

SECOND, ABSENT = machine(2), machine(3)
Beats = Call[HeartbeatRequest, HeartbeatResponse]


async def announce(bench: Bench, who: Machine, key: bytes, *cidrs: str) -> None:
    networking = NodeClusterNetworking(
        wireguard_pubkey=base64.b64encode(key).decode(),
        prefixes=[NodeClusterNetworking.Prefix(cidr=cidr) for cidr in cidrs],
    )
    request = UpdateNodeClusterNetworkingRequest(clusternet=networking)
    await curator.update_node_cluster_networking(bench.leader, request, who.peer)


def test_a_status_is_replaced_whole_and_stamped_by_the_leader() -> None:
    async def scenario(bench: Bench) -> None:
        status = NodeStatus(external_address="192.0.2.1", boot_id=b"b" * 16)
        status.timestamp.FromSeconds(1)
        request = UpdateNodeStatusRequest(node_id=FIRST.node_id, status=status)
        await curator.update_node_status(bench.leader, request, FIRST.peer)
        shown = (await bench.show(FIRST)).status
        assert shown.boot_id == b"b" * 16
        received = shown.timestamp.ToDatetime(tzinfo=UTC)
        assert abs((received - bench.leader.own.clock.wall()).total_seconds()) < 1
        await bench.report(FIRST, "192.0.2.2")
        assert not (await bench.show(FIRST)).status.boot_id

    run(scenario)


def test_a_node_reports_only_about_itself() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.enrol(SECOND)
        request = UpdateNodeStatusRequest(
            node_id=FIRST.node_id, status=NodeStatus(external_address="192.0.2.1")
        )
        for peer in (SECOND.peer, OWNER, FIRST.stranger):
            with pytest.raises(PermissionDeniedError):
                await curator.update_node_status(bench.leader, request, peer)
        assert not (await bench.show(FIRST)).HasField("status")

    run(scenario)


@pytest.mark.parametrize("status", [None, NodeStatus(), NodeStatus(external_address="a.example")])
def test_a_status_needs_an_address(status: NodeStatus | None) -> None:
    async def scenario(bench: Bench) -> None:
        request = UpdateNodeStatusRequest(node_id=FIRST.node_id, status=status)
        with pytest.raises(InvalidArgumentError):
            await curator.update_node_status(bench.leader, request, FIRST.peer)

    run(scenario)


def test_nobody_reports_who_is_no_member() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(NotFoundError):
            await bench.report(ABSENT, "192.0.2.3")
        await bench.register(SECOND)
        with pytest.raises(FailedPreconditionError):
            await bench.report(SECOND, "192.0.2.3")

    run(scenario)


def test_every_heartbeat_is_answered_and_heard() -> None:
    async def scenario(bench: Bench) -> None:
        call = Beats(FIRST.peer, ends=False)
        task = bench.group.create_task(curator.heartbeat(bench.leader, call))
        for count in range(1, 4):
            call.ask(HeartbeatRequest())
            await call.wait_sent(count)
            assert (await bench.show(FIRST)).health == Node.HEALTH_HEALTHY
            assert (await bench.show(FIRST)).time_since_heartbeat.ToSeconds() == 0
            await asyncio.sleep(20)
            assert (await bench.show(FIRST)).health == Node.HEALTH_HEARTBEAT_TIMEOUT
        call.ask(None)
        await task

    run(scenario)


@pytest.mark.parametrize("peer", [OWNER, FIRST.stranger])
def test_only_nodes_have_heartbeats(peer: Peer) -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(PermissionDeniedError):
            await curator.heartbeat(bench.leader, Beats(peer, HeartbeatRequest()))

    run(scenario)


def test_networking_is_announced_and_replaced() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.report(FIRST, "192.0.2.1")
        await announce(bench, FIRST, b"k" * 32, "10.192.4.0/24", "192.0.2.1/32")
        await announce(bench, FIRST, b"m" * 32)
        stored = (await bench.leader.load(FIRST.node_id)).message.clusternet
        assert stored.wireguard_pubkey == base64.b64encode(b"m" * 32).decode()
        assert not stored.prefixes

    run(scenario)


def test_two_nodes_never_share_a_wireguard_key_however_fast_they_are() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.report(FIRST, "192.0.2.1")
        await bench.enrol(SECOND, address="192.0.2.2")
        results = await asyncio.gather(
            announce(bench, FIRST, b"k" * 32),
            announce(bench, SECOND, b"k" * 32),
            return_exceptions=True,
        )
        assert [type(result) for result in results if result] == [InvalidArgumentError]

    for seed in range(20):
        run(scenario, seed=seed)


def test_a_key_that_its_node_gave_up_is_free() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.report(FIRST, "192.0.2.1")
        await bench.enrol(SECOND, address="192.0.2.2")
        await announce(bench, FIRST, b"k" * 32)
        await announce(bench, FIRST, b"m" * 32)
        await announce(bench, SECOND, b"k" * 32)

    run(scenario)


def test_networking_needs_a_node_a_message_and_a_status() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(FailedPreconditionError):
            await announce(bench, FIRST, b"k" * 32)
        request = UpdateNodeClusterNetworkingRequest()
        with pytest.raises(InvalidArgumentError):
            await curator.update_node_cluster_networking(bench.leader, request, FIRST.peer)
        with pytest.raises(PermissionDeniedError):
            await curator.update_node_cluster_networking(bench.leader, request, OWNER)

    run(scenario)


def test_certificates_for_kubernetes_come_with_another_build() -> None:
    async def scenario(bench: Bench) -> None:
        request = IssueCertificateRequest()
        with pytest.raises(UnimplementedError, match="no Kubernetes"):
            await curator.issue_certificate(bench.leader, request, FIRST.peer)
        with pytest.raises(PermissionDeniedError):
            await curator.issue_certificate(bench.leader, request, OWNER)

    run(scenario)


def test_a_heartbeat_stream_ends_with_its_caller() -> None:
    async def scenario(bench: Bench) -> None:
        call = Beats(FIRST.peer, ends=False)
        task = bench.group.create_task(curator.heartbeat(bench.leader, call))
        await asyncio.sleep(1)
        await ended(task)

    run(scenario)
