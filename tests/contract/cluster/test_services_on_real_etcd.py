# SPDX-License-Identifier: Apache-2.0
"""The control plane on a real etcd: what the model promises, the real one keeps."""

import asyncio
from pathlib import Path

import pytest

from contract.cluster.real_etcd import run_on_etcd
from metropolis.api.aaa_pb2 import EscrowRequest, EscrowResponse
from metropolis.api.common_pb2 import NODE_STATE_UP
from metropolis.api.curator_pb2 import JoinNodeRequest, WatchEvent, WatchRequest
from metropolis.api.management_pb2 import ApproveNodeRequest, DeleteNodeRequest
from metropolis.cluster.services.aaa import escrow
from metropolis.cluster.services.enrolment import commit_node, join_node
from metropolis.cluster.services.management import approve_node, delete_node
from metropolis.cluster.services.watch import watch
from metropolis.cluster.state.bootstrap import bootstrap_cluster
from metropolis.host.sim.entropy import SimEntropy
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.rpc.status import NotLeaderError
from unit.cluster.harness import (
    FIRST,
    OWNER,
    OWNER_KEY,
    Bench,
    Call,
    bootstrap_request,
    commit_request,
    machine,
)

NEW = machine(2)


def test_a_life_on_real_etcd(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        again = await bootstrap_cluster(bench.store, bootstrap_request(), SimEntropy(9))
        assert again == bench.born
        owner = Peer(kind=PeerKind.EPHEMERAL, public_key=OWNER_KEY)
        parameters = EscrowRequest.Parameters(requested_identity_name="owner", public_key=OWNER_KEY)
        emitted = []
        for _ in range(2):
            call: Call[EscrowRequest, EscrowResponse] = Call(
                owner, EscrowRequest(parameters=parameters)
            )
            await escrow(bench.leader, call)
            emitted.append(call.sent[0].emitted_certificate)
        assert emitted[0] == emitted[1] != b""
        watching: Call[WatchRequest, WatchEvent] = Call(
            OWNER, WatchRequest(nodes_in_cluster=WatchRequest.NodesInCluster())
        )
        watcher = bench.group.create_task(watch(bench.leader, watching))
        (first,) = await watching.wait_sent(1)
        assert first.progress == WatchEvent.PROGRESS_LAST_BACKLOGGED
        await bench.register(NEW)
        await approve_node(bench.leader, ApproveNodeRequest(pubkey=NEW.key), OWNER)
        committed = await commit_node(bench.leader, commit_request(NEW), NEW.stranger)
        assert await commit_node(bench.leader, commit_request(NEW), NEW.stranger) == committed
        assert (await bench.show(NEW)).state == NODE_STATE_UP
        joined = await join_node(
            bench.leader, JoinNodeRequest(using_sealed_configuration=True), NEW.joiner
        )
        assert joined.cluster_unlock_key == NEW.unlock_key
        await asyncio.gather(*(bench.report(FIRST, f"192.0.2.{n}") for n in range(1, 9)))
        assert len(await bench.list()) == 2
        request = DeleteNodeRequest(
            id=NEW.node_id,
            safety_bypass_not_decommissioned=DeleteNodeRequest.SafetyBypassNotDecommissioned(),
        )
        await delete_node(bench.leader, request, OWNER)
        assert len(await bench.list()) == 1
        while not any(event.node_tombstones for event in watching.sent):
            await watching.wait_sent(len(watching.sent) + 1)
        watcher.cancel()

    run_on_etcd(tmp_path, scenario)


def test_a_deposed_leader_is_refused_by_real_etcd(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.depose()
        with pytest.raises(NotLeaderError):
            await bench.list()
        with pytest.raises(NotLeaderError):
            await bench.report(FIRST, "192.0.2.1")

    run_on_etcd(tmp_path, scenario)


def test_reads_on_real_etcd_are_never_stale(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        for number in range(1, 30):
            await bench.report(FIRST, f"192.0.2.{number}")
            assert (await bench.show(FIRST)).status.external_address == f"192.0.2.{number}"

    run_on_etcd(tmp_path, scenario)
