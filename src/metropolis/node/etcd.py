# SPDX-License-Identifier: Apache-2.0
"""The real consensus member of a node: etcd, on the node's storage."""

from collections.abc import Callable

from metropolis.base.ids import NodeId
from metropolis.cluster.state.pki import CONSENSUS
from metropolis.consensus.member.member import EtcdMember, MemberConfig
from metropolis.consensus.member.start import Bootstrap, ExistingPeer, Join, PeerIdentity, Start
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.host import Host
from metropolis.node.intent import ConsensusIntent
from metropolis.node.roles.edges import MemberFactory
from metropolis.node.storage import ETCD
from metropolis.rpc.channel import Channel
from metropolis.supervision import Runnable, Value


def etcd_member(*, host: Host, binary: str, dial: Callable[[str], Channel]) -> MemberFactory:
    """Return what makes the runnable of an etcd member.

    Args:
        binary: Path of the etcd program.
        dial: Opens a channel to a unix socket, without TLS.
    """

    def make(intent: ConsensusIntent, status: Value[ConsensusStatus | None]) -> Runnable:
        config = MemberConfig(
            node_id=NodeId(intent.node_id),
            binary=binary,
            start=_start(intent),
            listen_host=host.addresses[0],
            root=ETCD.path,
            crl_key=CONSENSUS.crl,
        )
        return EtcdMember(config, host=host, dial=dial, status=status).run

    return make


def _start(intent: ConsensusIntent) -> Start:
    role = intent.role
    identity = PeerIdentity(
        ca_certificate=role.ca_certificate,
        certificate=role.peer_certificate,
        initial_crl=role.initial_crl,
        key=intent.key,
    )
    if intent.founds:
        return Bootstrap(identity=identity)
    peers = [ExistingPeer(name=peer.name, url=peer.url) for peer in role.peers]
    return Join(identity=identity, peers=peers)
