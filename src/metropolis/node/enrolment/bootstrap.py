# SPDX-License-Identifier: Apache-2.0
"""Founding a cluster: a consensus of one member, a CA in its store, and this node in it.

The consensus CA is made before there is a store to keep it, so that peers speak TLS from the
first second; the record holds it until the store does.
"""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from metropolis.api import common_pb2
from metropolis.api.enrolment_pb2 import EnrolmentRecord
from metropolis.base.ids import NodeId, node_id_from_public_key
from metropolis.cluster.planner.labels import at_enrolment
from metropolis.cluster.state.bootstrap import (
    BootstrapRequest,
    ConsensusSeed,
    bootstrap_cluster,
    seed_consensus,
)
from metropolis.consensus.store import Store
from metropolis.node.enrolment import edges as enrolment
from metropolis.node.enrolment.edges import Actions, EnrolmentEdges
from metropolis.node.intent import ConsensusIntent
from metropolis.node.parameters import default_cluster_configuration
from metropolis.node.storage import CLUSTER_DIRECTORY, LOCAL_ROLES
from metropolis.pki import keys
from metropolis.pki.certificates import Authority
from metropolis.supervision import Context


def actions(ctx: Context, edges: EnrolmentEdges) -> Actions:
    """What each step of the bootstrap flow does."""
    assert edges.parameters is not None
    parameters = edges.parameters.cluster_bootstrap

    async def create_keys(record: EnrolmentRecord) -> None:
        enrolment.create_keys(edges, record)
        configuration = default_cluster_configuration()
        if parameters.HasField("initial_cluster_configuration"):
            configuration = parameters.initial_cluster_configuration
        record.cluster_configuration.CopyFrom(configuration)
        enrolment.plan_policies(edges, record)
        _create_consensus_seed(edges, record)
        ctx.log.info("This node is %s, the first of a new cluster", _node_id(record))

    async def seal_without_ca(record: EnrolmentRecord) -> None:
        await enrolment.seal(edges, record)

    async def start_consensus(record: EnrolmentRecord) -> None:
        await _store(edges, record)

    async def commit(record: EnrolmentRecord) -> None:
        labels, ignored = at_enrolment(
            [(pair.key, pair.value) for pair in parameters.labels.pairs], last_wins=True
        )
        if ignored:
            ctx.log.warning("%d labels of the node parameters are not valid; ignored", ignored)
        founded = await bootstrap_cluster(
            await _store(edges, record),
            BootstrapRequest(
                node_public_key=keys.raw_public_key(enrolment.node_key(record)),
                join_public_key=keys.raw_public_key(enrolment.join_key(record)),
                owner_public_key=parameters.owner_public_key,
                configuration=record.cluster_configuration,
                tpm_usage=record.tpm_usage,
                cluster_unlock_key=record.cluster_unlock_key,
                labels=labels,
                consensus=_consensus_seed(record),
            ),
            edges.host.entropy,
        )
        record.ca_certificate = founded.ca_certificate
        record.node_certificate = founded.node_certificate

    async def save_credentials(record: EnrolmentRecord) -> None:
        await enrolment.save_credentials(edges, record)
        roles = common_pb2.NodeRoles(consensus_member=record.consensus_member)
        roles.kubernetes_controller.SetInParent()
        await edges.storage.write(LOCAL_ROLES, roles.SerializeToString(deterministic=True))

    async def seal(record: EnrolmentRecord) -> None:
        directory = common_pb2.ClusterDirectory()
        entry = directory.nodes.add(id=_node_id(record))
        entry.addresses.add(host=edges.host.addresses[0])
        await edges.storage.write(
            CLUSTER_DIRECTORY, directory.SerializeToString(deterministic=True)
        )
        await enrolment.seal(edges, record)

    return {
        EnrolmentRecord.STEP_KEYS_CREATED: create_keys,
        EnrolmentRecord.STEP_STORAGE_READY: lambda record: enrolment.make_partition(edges, record),
        EnrolmentRecord.STEP_SEALED_WITHOUT_CA: seal_without_ca,
        EnrolmentRecord.STEP_CONSENSUS_STARTED: start_consensus,
        EnrolmentRecord.STEP_COMMITTED: commit,
        EnrolmentRecord.STEP_CREDENTIALS_SAVED: save_credentials,
        EnrolmentRecord.STEP_SEALED: seal,
        EnrolmentRecord.STEP_DONE: lambda record: enrolment.finish(edges, record),
    }


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
