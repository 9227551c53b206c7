# SPDX-License-Identifier: Apache-2.0
"""Members of a real etcd."""

from collections.abc import Sequence
from typing import TypeVar

from google.protobuf.message import Message

from metropolis.api import etcd_pb2 as pb
from metropolis.api.methods import Method
from metropolis.api.rpc_etcd import EtcdCluster, EtcdMaintenance
from metropolis.base.errors import NotFoundError, UnavailableError
from metropolis.consensus.etcd.messages import member
from metropolis.consensus.etcd.store import CALL_TIMEOUT_S, call_quorum
from metropolis.consensus.store import Member
from metropolis.rpc.channel import Channel

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


class EtcdMembership:
    """See `metropolis.consensus.store.Membership`."""

    def __init__(self, channel: Channel, *, timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._channel = channel
        self._timeout_s = timeout_s

    async def members(self) -> Sequence[Member]:
        request = pb.MemberListRequest(linearizable=True)
        response = await self._call(EtcdCluster.MEMBER_LIST, request)
        return tuple(map(member, response.members))

    async def add_learner(self, peer_url: str) -> Member:
        request = pb.MemberAddRequest(peerURLs=[peer_url], isLearner=True)
        try:
            response = await self._call(EtcdCluster.MEMBER_ADD, request)
        except NotFoundError as cause:
            # etcd makes the id of URL and second, and never takes a removed id back.
            raise UnavailableError(
                "a consensus member with that peer URL was removed in this very second",
                remedy="Retry in a second.",
            ) from cause
        return member(response.member)

    async def promote(self, member_id: int) -> None:
        await self._call(EtcdCluster.MEMBER_PROMOTE, pb.MemberPromoteRequest(ID=member_id))

    async def remove(self, member_id: int) -> None:
        await self._call(EtcdCluster.MEMBER_REMOVE, pb.MemberRemoveRequest(ID=member_id))

    async def update(self, member_id: int, peer_url: str) -> None:
        request = pb.MemberUpdateRequest(ID=member_id, peerURLs=[peer_url])
        await self._call(EtcdCluster.MEMBER_UPDATE, request)

    async def move_leader(self, member_id: int) -> None:
        await self._call(EtcdMaintenance.MOVE_LEADER, pb.MoveLeaderRequest(targetID=member_id))

    async def _call(self, method: Method[Req, Res], request: Req) -> Res:
        return await call_quorum(self._channel, method, request, timeout_s=self._timeout_s)
