# SPDX-License-Identifier: Apache-2.0
"""Founding a cluster: a consensus of one member, a CA in its store, and this node in it.

The consensus CA is made before there is a store to keep it, so that peers speak TLS from the
first second; the record holds it until the store does. With a restore file beside its parameters
the node founds a consensus for a cluster that comes back, instead of a new cluster.
"""

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from metropolis.api import common_pb2
from metropolis.api.audit_pb2 import OUTCOME_DONE, Actor, Record
from metropolis.api.enrolment_pb2 import EnrolmentRecord
from metropolis.base.ids import NodeId, node_id_from_public_key
from metropolis.cluster.backup.restore import restore_cluster
from metropolis.cluster.planner.labels import at_enrolment
from metropolis.cluster.state.bootstrap import (
    BootstrapRequest,
    ConsensusSeed,
    bootstrap_cluster,
    seed_consensus,
)
from metropolis.cluster.unrecorded import Notes
from metropolis.consensus.store import Store
from metropolis.node.enrolment import edges as enrolment
from metropolis.node.enrolment.edges import Actions, EnrolmentEdges
from metropolis.node.enrolment.restoration import (
    Restoration,
    read_restoration,
    require_restoration,
)
from metropolis.node.intent import ConsensusIntent
from metropolis.node.parameters import default_cluster_configuration
from metropolis.node.storage import CLUSTER_DIRECTORY, LOCAL_ROLES, RESTORE, UNRECORDED
from metropolis.pki import keys
from metropolis.pki.certificates import Authority
from metropolis.supervision import Context

_RESTORE: Final = "Backup.Restore"


def actions(ctx: Context, edges: EnrolmentEdges) -> Actions:
    """What each step of the bootstrap flow does."""
    flow = _Bootstrap(ctx, edges)
    return {
        EnrolmentRecord.STEP_KEYS_CREATED: flow.create_keys,
        EnrolmentRecord.STEP_STORAGE_READY: flow.make_partition,
        EnrolmentRecord.STEP_SEALED_WITHOUT_CA: flow.seal_without_ca,
        EnrolmentRecord.STEP_CONSENSUS_STARTED: flow.start_consensus,
        EnrolmentRecord.STEP_COMMITTED: flow.commit,
        EnrolmentRecord.STEP_CREDENTIALS_SAVED: flow.save_credentials,
        EnrolmentRecord.STEP_SEALED: flow.seal,
        EnrolmentRecord.STEP_DONE: flow.finish,
    }


class _Bootstrap:
    """The steps, over one record that grows."""

    def __init__(self, ctx: Context, edges: EnrolmentEdges) -> None:
        assert edges.parameters is not None
        self._ctx = ctx
        self._edges = edges
        self._parameters = edges.parameters.cluster_bootstrap

    async def create_keys(self, record: EnrolmentRecord) -> None:
        enrolment.create_keys(self._edges, record)
        configuration = default_cluster_configuration()
        restoration = await read_restoration(self._edges.storage)
        if restoration is not None:
            record.restore_digest = restoration.digest
            configuration = restoration.content.configuration
            self._ctx.log.info("%s", restoration.sentence)
        elif self._parameters.HasField("initial_cluster_configuration"):
            configuration = self._parameters.initial_cluster_configuration
        record.cluster_configuration.CopyFrom(configuration)
        enrolment.plan_policies(self._edges, record)
        _create_consensus_seed(self._edges, record)
        self._ctx.log.info("This node is %s, the first of a new cluster", _node_id(record))

    async def make_partition(self, record: EnrolmentRecord) -> None:
        await enrolment.make_partition(self._edges, record)

    async def seal_without_ca(self, record: EnrolmentRecord) -> None:
        await enrolment.seal(self._edges, record)

    async def start_consensus(self, record: EnrolmentRecord) -> None:
        await _store(self._edges, record)

    async def commit(self, record: EnrolmentRecord) -> None:
        pairs = [(pair.key, pair.value) for pair in self._parameters.labels.pairs]
        labels, ignored = at_enrolment(pairs, last_wins=True)
        if ignored:
            self._ctx.log.warning("%d labels of the node parameters are not valid", ignored)
        request = BootstrapRequest(
            node_public_key=keys.raw_public_key(enrolment.node_key(record)),
            join_public_key=keys.raw_public_key(enrolment.join_key(record)),
            owner_public_key=self._parameters.owner_public_key,
            configuration=record.cluster_configuration,
            tpm_usage=record.tpm_usage,
            cluster_unlock_key=record.cluster_unlock_key,
            labels=labels,
            consensus=_consensus_seed(record),
        )
        store = await _store(self._edges, record)
        entropy = self._edges.host.entropy
        if record.restore_digest:
            restoration = await require_restoration(self._edges.storage, record.restore_digest)
            founded = await restore_cluster(
                store,
                restoration.content,
                request,
                entropy,
                known_generation=restoration.known_generation,
            )
            await self._note(restoration, _node_id(record))
        else:
            founded = await bootstrap_cluster(store, request, entropy)
        record.ca_certificate = founded.ca_certificate
        record.node_certificate = founded.node_certificate

    async def _note(self, restoration: Restoration, node_id: NodeId) -> None:
        """Have the audit log, which came back too, say where it was cut; once."""
        notes = Notes(self._edges.storage.directory, UNRECORDED.path)
        if any(each.method == _RESTORE for each in await notes.records()):
            return  # noted before the node was killed
        noted = Record(
            actor=Actor(kind=Actor.KIND_LEADER, identity=node_id),
            method=_RESTORE,
            outcome=OUTCOME_DONE,
            sentence=restoration.sentence,
        )
        noted.time.FromDatetime(self._edges.host.clock.wall())
        await notes.add(noted)

    async def save_credentials(self, record: EnrolmentRecord) -> None:
        await enrolment.save_credentials(self._edges, record)
        roles = common_pb2.NodeRoles(consensus_member=record.consensus_member)
        roles.kubernetes_controller.SetInParent()
        await self._edges.storage.write(LOCAL_ROLES, roles.SerializeToString(deterministic=True))

    async def seal(self, record: EnrolmentRecord) -> None:
        directory = common_pb2.ClusterDirectory()
        entry = directory.nodes.add(id=_node_id(record))
        entry.addresses.add(host=self._edges.host.addresses[0])
        await self._edges.storage.write(
            CLUSTER_DIRECTORY, directory.SerializeToString(deterministic=True)
        )
        await enrolment.seal(self._edges, record)

    async def finish(self, record: EnrolmentRecord) -> None:
        await self._edges.storage.remove(RESTORE)  # it holds every key of the cluster
        await enrolment.finish(self._edges, record)


def _node_id(record: EnrolmentRecord) -> NodeId:
    return node_id_from_public_key(keys.raw_public_key(enrolment.node_key(record)))


def _create_consensus_seed(edges: EnrolmentEdges, record: EnrolmentRecord) -> None:
    seed = seed_consensus(keys.raw_public_key(enrolment.node_key(record)), edges.host.entropy)
    record.consensus_ca_private_key = seed.authority.key.private_bytes_raw()
    record.consensus_member.ca_certificate = seed.authority.certificate
    record.consensus_member.peer_certificate = seed.peer_certificate
    record.consensus_member.initial_crl = seed.crl


def _consensus_seed(record: EnrolmentRecord) -> ConsensusSeed:
    key = Ed25519PrivateKey.from_private_bytes(record.consensus_ca_private_key)
    member = record.consensus_member
    return ConsensusSeed(
        authority=Authority(certificate=member.ca_certificate, key=key),
        peer_certificate=member.peer_certificate,
        crl=member.initial_crl,
    )


async def _store(edges: EnrolmentEdges, record: EnrolmentRecord) -> Store:
    """Have the first member run, and wait until its store answers."""
    edges.intent.set(
        ConsensusIntent(
            node_id=_node_id(record),
            founds=True,
            role=record.consensus_member,
            key=enrolment.node_key(record),
        )
    )
    status = await edges.consensus.wait_for(lambda status: status is not None)
    assert status is not None
    return status.store
