# SPDX-License-Identifier: Apache-2.0
"""The enrolment as a runnable: find, decide, act, write down; then publish who this node is."""

import hashlib

from metropolis.api.configuration_pb2 import NodeParameters
from metropolis.api.enrolment_pb2 import EnrolmentRecord
from metropolis.base.errors import MetropolisError
from metropolis.node.enrolment import bootstrap, register
from metropolis.node.enrolment.edges import EnrolmentEdges, conceal_secrets, partition_key
from metropolis.node.enrolment.join import join
from metropolis.node.enrolment.lifecycle import Decision, Findings, Flow, decide, steps_left
from metropolis.node.enrolment.record import read_record, write_step
from metropolis.node.identity import (
    NodeIdentity,
    has_credentials,
    read_identity,
    read_sealed_configuration,
)
from metropolis.supervision import Context, Value


async def enrol(
    ctx: Context, *, edges: EnrolmentEdges, identity: Value[NodeIdentity | None]
) -> None:
    """Become part of a cluster, or find back into it. Done when the identity is published."""
    decision = decide(await _findings(edges))
    if edges.sealer is not None:  # all that was sealed is read: nobody else needs to open it
        await edges.sealer.lock()
    if isinstance(decision, MetropolisError):
        raise decision
    ctx.log.info("%s", decision.sentence)
    if decision.flow != EnrolmentRecord.FLOW_JOIN:
        await _run_flow(ctx, edges, decision)
    sealed = await read_sealed_configuration(edges.storage)
    assert sealed is not None, "the flows end with a sealed configuration"
    if decision.flow == EnrolmentRecord.FLOW_JOIN:
        found = await join(ctx, edges, sealed)
    else:  # the disk is open, and the cluster that holds half of its key may be this node alone
        found = await read_identity(edges.storage, sealed)
    identity.set(found)
    ctx.log.info("Cluster enrolment done.")
    ctx.healthy()
    ctx.done()


async def _run_flow(ctx: Context, edges: EnrolmentEdges, decision: Decision) -> None:
    record = await read_record(edges.storage)
    if record is None:
        assert edges.parameters is not None
        record = EnrolmentRecord(flow=decision.flow, parameters_digest=_digest(edges.parameters))
    conceal_secrets(ctx, record)
    room = bootstrap if decision.flow == EnrolmentRecord.FLOW_BOOTSTRAP else register
    actions = room.actions(ctx, edges)
    left = steps_left(decision.flow, record.step)
    if EnrolmentRecord.STEP_STORAGE_READY not in left:  # made before the node was killed
        await edges.partition.open(record.storage_security, partition_key(record))
    for step in left:
        name = EnrolmentRecord.Step.Name(step).removeprefix("STEP_").lower().replace("_", " ")
        await actions[step](record)
        conceal_secrets(ctx, record)
        if step == EnrolmentRecord.STEP_DONE:
            return
        await write_step(edges.storage, record, step)
        ctx.log.info("Enrolment: %s", name)


async def _findings(edges: EnrolmentEdges) -> Findings:
    sealed = await read_sealed_configuration(edges.storage)
    record = await read_record(edges.storage)
    parameters_flow: Flow | None = None
    digest = b""
    if edges.parameters is not None:
        founds = edges.parameters.HasField("cluster_bootstrap")
        parameters_flow = (
            EnrolmentRecord.FLOW_BOOTSTRAP if founds else EnrolmentRecord.FLOW_REGISTER
        )
        digest = _digest(edges.parameters)
    is_closed = sealed is not None and not edges.partition.is_open
    return Findings(
        sealed_has_ca=None if sealed is None else bool(sealed.cluster_ca),
        # A disk that is not open yet, encrypted or not, shows no credentials; joining opens it.
        has_credentials=is_closed or await has_credentials(edges.storage),
        record_flow=None if record is None else record.flow,
        record_digest=b"" if record is None else record.parameters_digest,
        parameters_flow=parameters_flow,
        parameters_digest=digest,
    )


def _digest(parameters: NodeParameters) -> bytes:
    return hashlib.sha256(parameters.SerializeToString(deterministic=True)).digest()
