# SPDX-License-Identifier: Apache-2.0
"""QuorumRecovery on port 7839: what is left to do when a majority is lost, or has lost its way.

No leader can be asked whether the caller may do this. So only the owner may: the connection proves
the key of a certificate that the cluster's CA has signed for the owner, and where the local member
still answers, that key must be the one that is stored.

What a member that is cut off from a living majority cannot know is that this majority lives. So the
operator's program looks for a leader first, and the owner says that the others are gone.
"""

import asyncio
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Final

from google.protobuf.message import DecodeError

from metropolis.api import backup_pb2 as wire
from metropolis.api.audit_pb2 import OUTCOME_DONE, Record
from metropolis.api.common_pb2 import ClusterConfiguration
from metropolis.api.rpc_backup import QuorumRecovery
from metropolis.api.storage_pb2 import InitialOwner
from metropolis.base.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    MetropolisError,
    PermissionDeniedError,
    chain,
)
from metropolis.base.ids import parse_node_id
from metropolis.cluster.planner.audit import acting_of, record_of
from metropolis.cluster.state import keys
from metropolis.cluster.unrecorded import Notes
from metropolis.consensus.member.files import order_alone
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.host import Clock, Directory
from metropolis.node.intent import ConsensusIntent
from metropolis.node.storage import ETCD, UNRECORDED
from metropolis.pki.certificates import OWNER
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.supervision import Logger, Value

QUORUM_S: Final = 6.0  # how long a majority may take to answer: two elections and a call
RESTART_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Local:
    """What the local member says without asking the others."""

    owner_public_key: bytes = b""
    cluster_domain: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumEdges:
    """What the member of a node is reached by.

    Attributes:
        intent: Another attempt in it restarts the member.
        introduced: Where the owner has found nodes, by id.
    """

    storage: Directory
    intent: Value[ConsensusIntent | None]
    consensus: Value[ConsensusStatus | None]
    introduced: Value[Mapping[str, str]]
    clock: Clock


class QuorumService:
    """Answers for this node's consensus member."""

    def __init__(self, edges: QuorumEdges, log: Logger, node_id: str) -> None:
        self._edges = edges
        self._log = log
        self._node_id = node_id
        self._lock = asyncio.Lock()

    async def inspect_quorum(
        self, _request: wire.InspectQuorumRequest, peer: Peer
    ) -> wire.InspectQuorumResponse:
        """Say what this member knows."""
        local = await self._admit(peer)
        response = wire.InspectQuorumResponse(
            node_id=self._node_id, error=local.error, cluster_domain=local.cluster_domain
        )
        status = self._edges.consensus.current
        if status is not None and not local.error:
            found = await status.store.status()
            response.raft_index = found.raft_index
            response.raft_term = found.raft_term
            response.revision = found.revision
            response.is_learner = found.is_learner
            response.has_quorum = await _has_quorum(status)
        return response

    async def recover_quorum(
        self, request: wire.RecoverQuorumRequest, peer: Peer
    ) -> wire.RecoverQuorumResponse:
        """Make this member the only one."""
        await self._admit(peer)
        if request.node_id != self._node_id:
            raise InvalidArgumentError(
                f"this is node {self._node_id}, not {request.node_id}",
                remedy="Give the address of the member that you mean.",
            )
        async with self._lock:
            status = await self._settled()
            if status is not None and await _has_quorum(status):
                raise FailedPreconditionError(
                    "a majority of the consensus answers: there is nothing to recover",
                    remedy="Look at `metroctl consensus status`.",
                )
            await self._restart_alone(request, peer)
            return wire.RecoverQuorumResponse(revision=await self._wait_alone(status))

    async def introduce_nodes(
        self, request: wire.IntroduceNodesRequest, peer: Peer
    ) -> wire.IntroduceNodesResponse:
        """Believe the owner about where other nodes are."""
        await self._admit(peer)
        told: dict[str, str] = {}
        for node in request.nodes:
            try:
                told[parse_node_id(node.id)] = str(ip_address(node.host))
            except ValueError as cause:
                raise InvalidArgumentError(
                    f"{node.host[:64]!r} is not an IP address", remedy="Give literal addresses."
                ) from cause
        if told:
            self._log.info("The owner says where %d nodes are", len(told))
            self._edges.introduced.set(told)
        return wire.IntroduceNodesResponse(node_id=self._node_id)

    async def _settled(self) -> ConsensusStatus | None:
        """Return the member, waiting for one that has just been started and needs no recovery."""
        try:
            async with asyncio.timeout(QUORUM_S):
                return await self._edges.consensus.wait_for(lambda now: now is not None)
        except TimeoutError:
            return None

    async def _restart_alone(self, request: wire.RecoverQuorumRequest, peer: Peer) -> None:
        edges = self._edges
        intent = edges.intent.current if edges.intent.is_set else None
        if intent is None:
            raise FailedPreconditionError(
                "this node is no member of the consensus",
                remedy="Give the address of a node that is.",
            )
        notes = Notes(edges.storage, UNRECORDED.path)
        await notes.add(_record(request, peer, edges.clock))
        await order_alone(edges.storage, root=ETCD.path)
        self._log.warning(
            "The owner has declared the majority of the consensus lost for ever: "
            "this node goes on alone"
        )
        edges.intent.set(replace(intent, attempt=intent.attempt + 1))

    async def _wait_alone(self, before: ConsensusStatus | None) -> int:
        try:
            async with asyncio.timeout(RESTART_S):
                status = await self._edges.consensus.wait_for(
                    lambda now: now is not None and now is not before
                )
                assert status is not None
                return (await status.store.status()).revision
        except TimeoutError as cause:
            raise DeadlineExceededError(
                f"the member did not come up alone within {RESTART_S:.0f} s",
                remedy="Read its log: `metroctl node logs`, DN root.role.controlplane.consensus.",
            ) from cause

    async def _admit(self, peer: Peer) -> _Local:
        """Let the owner through, and nobody else.

        Raises:
            PermissionDeniedError: it is not the owner.
        """
        if peer.kind is not PeerKind.USER or peer.identity != OWNER or peer.public_key is None:
            raise PermissionDeniedError(
                "only the owner may do this while nobody leads",
                remedy="Use the context that holds the owner's key.",
            )
        local = await self._ask_locally()
        stored = local.owner_public_key
        if stored and not hmac.compare_digest(stored, peer.public_key):
            raise PermissionDeniedError(
                "this is not the owner's key any more",
                remedy="Use the context that holds the owner's present key.",
            )
        return local

    async def _ask_locally(self) -> _Local:
        status = self._edges.consensus.current
        if status is None:
            return _Local(error="its consensus member does not answer")
        try:
            owner = await status.store.get_local(keys.INITIAL_OWNER)
            configuration = await status.store.get_local(keys.CONFIGURATION)
            return _Local(
                owner_public_key=(
                    InitialOwner.FromString(owner.value).public_key if owner else b""
                ),
                cluster_domain=(
                    ClusterConfiguration.FromString(configuration.value).cluster_domain
                    if configuration
                    else ""
                ),
            )
        except MetropolisError as error:
            return _Local(error=chain(error))
        except DecodeError:
            return _Local(error="owner or configuration is damaged in its store")


def _record(request: wire.RecoverQuorumRequest, peer: Peer, clock: Clock) -> Record:
    """Return what the audit log says as soon as there is a leader again."""
    record = record_of(
        acting_of(QuorumRecovery.RECOVER_QUORUM, peer, request),
        sentence="declared the majority of the consensus lost for ever: this member goes on alone",
    )
    record.outcome = OUTCOME_DONE
    record.time.FromDatetime(clock.wall())
    return record


async def _has_quorum(status: ConsensusStatus) -> bool:
    try:
        async with asyncio.timeout(QUORUM_S):
            await status.store.get(keys.INITIAL_OWNER)
    except (MetropolisError, TimeoutError):
        return False
    return True
