# SPDX-License-Identifier: Apache-2.0
"""Becoming a member of an existing cluster.

The node proves its key by an ephemeral certificate made from it, so repeating any call is the
same node asking again: the cluster answers it as before and never makes a second one.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from metropolis.api import common_pb2, curator_pb2
from metropolis.api.enrolment_pb2 import EnrolmentRecord
from metropolis.api.rpc_curator import Curator
from metropolis.base.errors import MetropolisError, NotFoundError, PermissionDeniedError, chain
from metropolis.base.ids import node_id_from_public_key
from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.node.enrolment import edges as enrolment
from metropolis.node.enrolment.edges import Actions, EnrolmentEdges
from metropolis.node.storage import CLUSTER_DIRECTORY
from metropolis.pki import keys
from metropolis.pki.certificates import issue_ephemeral
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import server_verifier
from metropolis.rpc.channel import Channel
from metropolis.rpc.resolver import ClusterChannel
from metropolis.rpc.transport import Endpoint
from metropolis.supervision import Context

T = TypeVar("T")

COMMIT_RETRY_S: Final = 1.0
CALL_RETRY_S: Final = 2.0
CALL_TIMEOUT_S: Final = 10.0


def directory_endpoints(directory: common_pb2.ClusterDirectory) -> list[Endpoint]:
    """Every address of every node, on the port of the Cluster API."""
    return [
        Endpoint(address.host, CURATOR_TCP_PORT)
        for node in directory.nodes
        for address in node.addresses
    ]


def actions(ctx: Context, edges: EnrolmentEdges) -> Actions:
    """What each step of the register flow does."""
    flow = _Register(ctx, edges)
    return {
        EnrolmentRecord.STEP_KEYS_CREATED: flow.create_keys,
        EnrolmentRecord.STEP_REGISTERED: flow.register,
        EnrolmentRecord.STEP_STORAGE_READY: flow.make_partition,
        EnrolmentRecord.STEP_COMMITTED: flow.commit,
        EnrolmentRecord.STEP_CREDENTIALS_SAVED: flow.save_credentials,
        EnrolmentRecord.STEP_SEALED: flow.seal,
        EnrolmentRecord.STEP_DONE: flow.finish,
    }


class _Register:
    """The steps, over one record that grows."""

    def __init__(self, ctx: Context, edges: EnrolmentEdges) -> None:
        assert edges.parameters is not None
        self._ctx = ctx
        self._edges = edges
        self._parameters = edges.parameters.cluster_register

    async def create_keys(self, record: EnrolmentRecord) -> None:
        enrolment.create_keys(self._edges, record)
        record.ca_certificate = self._parameters.ca_certificate
        record.cluster_directory.CopyFrom(self._parameters.cluster_directory)
        node_id = node_id_from_public_key(keys.raw_public_key(enrolment.node_key(record)))
        self._ctx.log.info("This node is %s", node_id)

    async def register(self, record: EnrolmentRecord) -> None:
        self._ctx.log_tree.conceal(self._parameters.register_ticket)
        request = curator_pb2.RegisterNodeRequest(
            register_ticket=self._parameters.register_ticket,
            join_key=keys.raw_public_key(enrolment.join_key(record)),
            have_local_tpm=self._edges.has_local_tpm,
            labels=self._parameters.labels,
        )
        async with _channel(self._ctx, self._edges, record) as channel:
            response = await _until_reached(
                self._ctx,
                lambda: channel.call(Curator.REGISTER_NODE, request, timeout_s=CALL_TIMEOUT_S),
            )
        record.cluster_configuration.CopyFrom(response.cluster_configuration)
        record.tpm_usage = response.tpm_usage
        enrolment.plan_storage(self._edges, record, response.recommended_node_storage_security)

    async def make_partition(self, record: EnrolmentRecord) -> None:
        await enrolment.make_partition(self._edges, record)

    async def commit(self, record: EnrolmentRecord) -> None:
        request = curator_pb2.CommitNodeRequest(
            cluster_unlock_key=record.cluster_unlock_key, storage_security=record.storage_security
        )
        async with _channel(self._ctx, self._edges, record) as channel:
            response = await _until_approved(self._ctx, channel, request, record)
        record.ca_certificate = response.ca_certificate
        record.node_certificate = response.node_certificate

    async def save_credentials(self, record: EnrolmentRecord) -> None:
        await enrolment.save_credentials(self._edges, record)

    async def seal(self, record: EnrolmentRecord) -> None:
        await self._edges.storage.write(
            CLUSTER_DIRECTORY, record.cluster_directory.SerializeToString(deterministic=True)
        )
        await enrolment.seal(self._edges, record)

    async def finish(self, record: EnrolmentRecord) -> None:
        await enrolment.finish(self._edges, record)


@asynccontextmanager
async def _channel(
    ctx: Context, edges: EnrolmentEdges, record: EnrolmentRecord
) -> AsyncGenerator[Channel, None]:
    """A channel to the leader that proves nothing but the node's key."""
    key = enrolment.node_key(record)
    async with ClusterChannel(
        edges.transport,
        directory_endpoints(record.cluster_directory),
        credentials=Credentials(certificate=issue_ephemeral(key), key=key),
        verify=server_verifier(record.ca_certificate),
        rng=edges.host.entropy.jitter(),
        log=ctx.log,
    ) as channel:
        yield channel


async def _until_approved(
    ctx: Context,
    channel: Channel,
    request: curator_pb2.CommitNodeRequest,
    record: EnrolmentRecord,
) -> curator_pb2.CommitNodeResponse:
    """Ask every second, for as long as it takes a person to approve this node."""
    node_id = node_id_from_public_key(keys.raw_public_key(enrolment.node_key(record)))
    announced = False
    while True:
        try:
            return await channel.call(Curator.COMMIT_NODE, request, timeout_s=CALL_TIMEOUT_S)
        except PermissionDeniedError:
            if not announced:
                ctx.log.info("Waiting for approval: metroctl approve %s", node_id)
                announced = True
        except NotFoundError as cause:
            raise NotFoundError(
                f"the cluster knows no node {node_id} any more; somebody deleted it",
                remedy="Wipe this machine to register it as a new node.",
            ) from cause
        except MetropolisError as error:
            if not error.retryable:
                raise
            ctx.log.warning("Commit did not reach the cluster, trying again: %s", chain(error))
        await asyncio.sleep(COMMIT_RETRY_S)


async def _until_reached(ctx: Context, call: Callable[[], Awaitable[T]]) -> T:
    """Repeat an idempotent call until the cluster answers it, one way or the other."""
    while True:
        try:
            return await call()
        except MetropolisError as error:
            if not error.retryable:
                raise
            ctx.log.warning("The cluster does not answer, trying again: %s", chain(error))
        await asyncio.sleep(CALL_RETRY_S)
