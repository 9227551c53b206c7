# SPDX-License-Identifier: Apache-2.0
"""Changes to the members of the consensus, as a leader makes them.

They cannot be part of a transaction, so they come first and the record follows: whatever happens
in between, the member list is the truth and the background sync brings the record after it. A
leader confirms its leadership right before each; a member is removed by an id read before that,
which never names another member.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from metropolis.api.common_pb2 import NodeRoles
from metropolis.base.errors import (
    AlreadyExistsError,
    MetropolisError,
    NotFoundError,
    UnavailableError,
)
from metropolis.base.ids import NodeId
from metropolis.cluster.planner.roles import find_member, member_node_id
from metropolis.cluster.state.fenced import Change, FencedStore
from metropolis.cluster.state.pki import StoredPki
from metropolis.cluster.state.records import NodeRecord
from metropolis.consensus.member.start import peer_url
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.store import Member, Membership
from metropolis.pki.certificates import issue_etcd_peer

_RETRY: Final = "Wait until every member of the consensus is up and caught up, then retry."


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsensusMembers:
    """The members, their PKI, and the leader's own way to the store."""

    store: FencedStore
    membership: Membership
    pki: StoredPki

    async def all(self) -> Sequence[Member]:
        """List the members.

        Raises:
            UnavailableError: the consensus does not answer.
        """
        try:
            return await self.membership.members()
        except MetropolisError as error:
            raise _unavailable("could not list the members of the consensus", error) from error

    async def add(self, record: NodeRecord) -> NodeRoles.ConsensusMember:
        """Make a node a member (a learner at first) and return what it is told.

        Raises:
            UnavailableError: it cannot be added now.
        """
        await self._certify(record)  # which confirms the leadership, too
        try:
            await self.membership.add_learner(peer_url(record.node_id))
        except AlreadyExistsError:
            pass  # an earlier attempt came this far
        except MetropolisError as error:
            raise _unavailable("could not add node", error) from error
        return await self.invitation(record, await self.all())

    async def remove(self, member_id: int) -> None:
        """Remove a member; gone is fine.

        Raises:
            UnavailableError: it cannot be removed now.
        """
        await self.store.read()
        try:
            await self.membership.remove(member_id)
        except NotFoundError:
            return
        except MetropolisError as error:
            raise _unavailable("could not remove node", error) from error

    async def invitation(
        self, record: NodeRecord, members: Sequence[Member]
    ) -> NodeRoles.ConsensusMember:
        """Return what a member is told: certificates, who is refused, and whom it finds."""
        own = find_member(members, record.node_id)
        known = record.message.roles.consensus_member
        if own is not None and own.has_started:
            peers = list(known.peers)  # only the first start reads them
        else:
            peers = [
                NodeRoles.ConsensusMember.Peer(name=member_node_id(member), url=url)
                for member in members
                if member is not own
                for url in member.peer_urls
            ]
        return NodeRoles.ConsensusMember(
            ca_certificate=await self.pki.ca_certificate(),
            peer_certificate=await self._certify(record),
            initial_crl=await self.pki.crl(),
            peers=peers,
        )

    async def revocation(self, node_id: NodeId) -> Change:
        """Return the change that ends a member's certificate; empty when it has none."""
        return await self.pki.revoke(node_id) or Change()

    async def _certify(self, record: NodeRecord) -> bytes:
        issued = await self.pki.issue(
            record.node_id,
            record.public_key,
            lambda authority, serial: issue_etcd_peer(authority, record.public_key, serial=serial),
        )
        if issued.change.operations:
            said = Change(
                sentence="issued its certificate for the consensus", object=record.node_id
            )
            await self.store.write(said + issued.change)
        return issued.certificate


async def hand_raft_over(consensus: ConsensusStatus) -> None:
    """Let another member lead the store itself, if the local one does.

    Raises:
        MetropolisError: it was not possible; a leader that is removed is replaced anyhow, later.
    """
    status = await consensus.store.status()
    if status.leader_id != status.member_id:
        return
    for member in await consensus.membership.members():
        if not member.is_learner and member.member_id != status.member_id:
            await consensus.membership.move_leader(member.member_id)
            return


async def has_other_voters(consensus: ConsensusStatus) -> bool:
    """Tell whether the local member is not the only one that votes; no, while nobody knows."""
    try:
        members = await consensus.membership.members()
    except MetropolisError:
        return False
    return any(each.member_id != consensus.member_id and not each.is_learner for each in members)


def _unavailable(what: str, cause: MetropolisError) -> UnavailableError:
    return UnavailableError(f"{what}: {cause}", remedy=cause.remedy or _RETRY)
