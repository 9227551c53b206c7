# SPDX-License-Identifier: Apache-2.0
"""Curator: what members tell the cluster and ask of it; watching is in `watch`."""

import asyncio
import ipaddress

from google.protobuf.timestamp_pb2 import Timestamp

from metropolis.api.common_pb2 import NodeStatus
from metropolis.api.curator_pb2 import (
    GetConsensusStatusRequest,
    GetConsensusStatusResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    IssueCertificateRequest,
    IssueCertificateResponse,
    UpdateNodeClusterNetworkingRequest,
    UpdateNodeClusterNetworkingResponse,
    UpdateNodeStatusRequest,
    UpdateNodeStatusResponse,
)
from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
    UnimplementedError,
)
from metropolis.cluster.doubles import Trait
from metropolis.cluster.leader import Leader
from metropolis.cluster.lifecycle import NodeState
from metropolis.cluster.planner.networking import check_networking, check_status
from metropolis.cluster.planner.roles import member_node_id
from metropolis.cluster.services.callers import calling_node
from metropolis.cluster.state.records import NodeRecord
from metropolis.rpc.channel import ServerStream
from metropolis.rpc.peer import Peer

_Member = GetConsensusStatusResponse.EtcdMember


async def update_node_status(
    leader: Leader, request: UpdateNodeStatusRequest, peer: Peer
) -> UpdateNodeStatusResponse:
    """Store what a node reports about itself, with the time of receipt."""
    node_id = calling_node(peer)
    if request.node_id != node_id:
        raise PermissionDeniedError(
            "a node may report only its own status", remedy=f"Send node_id {node_id}."
        )
    check_status(request.status)
    status = NodeStatus()
    status.CopyFrom(request.status)
    now = Timestamp()
    now.FromDatetime(leader.own.clock.wall())
    status.timestamp.CopyFrom(now)

    now_s = asyncio.get_running_loop().time()
    _admit(leader, peer)
    leader.doubles.see(node_id, Trait.BOOT, status.boot_id.hex(), now_s=now_s)

    async def report(record: NodeRecord) -> NodeRecord:
        _check_up(record)
        return record.with_status(status)

    await leader.update(node_id, report)
    return UpdateNodeStatusResponse()


async def heartbeat(
    leader: Leader, stream: ServerStream[HeartbeatRequest, HeartbeatResponse]
) -> None:
    """Note that a node lives, and answer, for every message."""
    node_id = calling_node(stream.peer)
    while await stream.receive() is not None:
        _admit(leader, stream.peer)
        leader.heartbeats.hear(node_id)
        await stream.send(HeartbeatResponse())


async def update_node_cluster_networking(
    leader: Leader, request: UpdateNodeClusterNetworkingRequest, peer: Peer
) -> UpdateNodeClusterNetworkingResponse:
    """Store a node's part in the network between nodes."""
    node_id = calling_node(peer)
    if not request.HasField("clusternet"):
        raise InvalidArgumentError(
            "clusternet is required", remedy="Send the WireGuard key and the prefixes."
        )

    async def announce(record: NodeRecord) -> NodeRecord:
        _check_up(record)
        others = (await leader.confirmed()).all()
        check_networking(
            request.clusternet,
            external_address=record.external_address,
            taken_keys=[
                other.message.clusternet.wireguard_pubkey
                for other in others
                if other.node_id != node_id
            ],
        )
        return record.with_networking(request.clusternet)

    async with leader.networking_lock:  # or two nodes could take one key at the same time
        await leader.update(node_id, announce)
    return UpdateNodeClusterNetworkingResponse()


async def get_consensus_status(
    leader: Leader, _request: GetConsensusStatusRequest, _peer: Peer
) -> GetConsensusStatusResponse:
    """List the members of the consensus, by node id."""
    await leader.store.read()
    members = await leader.members.all()
    return GetConsensusStatusResponse(
        etcd_member=[
            _Member(
                id=member_node_id(member),
                status=_Member.STATUS_LEARNER if member.is_learner else _Member.STATUS_FULL,
            )
            for member in sorted(members, key=member_node_id)
        ]
    )


async def issue_certificate(
    _leader: Leader, _request: IssueCertificateRequest, peer: Peer
) -> IssueCertificateResponse:
    """Refuse: there is nothing to certify yet."""
    calling_node(peer)
    raise UnimplementedError(
        "this build has no Kubernetes, so it issues no certificates for it",
        remedy="Use a build that has Kubernetes; roles given now take effect there.",
    )


def _admit(leader: Leader, peer: Peer) -> None:
    """Note where a node calls from; the leader's own machine has two addresses.

    Raises:
        UnavailableError: another machine is that node.
    """
    node_id = calling_node(peer)
    try:
        is_here = ipaddress.ip_address(peer.address).is_loopback
    except ValueError:
        return
    leader.doubles.admit(
        node_id,
        leader.own.host if is_here else peer.address,
        known_address=leader.own.host if is_here else leader.nodes.external_address(node_id),
        now_s=asyncio.get_running_loop().time(),
    )


def _check_up(record: NodeRecord) -> None:
    if record.state is not NodeState.UP:
        raise FailedPreconditionError(
            f"node {record.node_id} is {record.state.name}, not UP",
            remedy="Let the node finish its enrolment first.",
        )
