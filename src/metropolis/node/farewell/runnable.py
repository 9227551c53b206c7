# SPDX-License-Identifier: Apache-2.0
"""Wipes the machine once everything else has stopped, reports it, and says what the machine is."""

import asyncio
from dataclasses import dataclass
from typing import Final

from metropolis.api import decommission_pb2
from metropolis.api.decommission_pb2 import WipeRecord
from metropolis.api.rpc_decommission import Farewell
from metropolis.base.errors import MetropolisError, chain
from metropolis.host import Host
from metropolis.node.enrolment.register import directory_endpoints
from metropolis.node.farewell.record import farewell_key, read_wipe_record, write_wipe_record
from metropolis.node.farewell.wipe import wipe
from metropolis.node.partition import DataPartition
from metropolis.node.storage import NodeStorage
from metropolis.pki.certificates import issue_ephemeral
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import server_verifier
from metropolis.rpc.resolver import ClusterChannel
from metropolis.rpc.transport import Transport
from metropolis.supervision import Context, Value

RETRY_S: Final = 1.0
CALL_TIMEOUT_S: Final = 10.0
EPITAPH: Final = "decommissioned: wipe done; install again to use this machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class FarewellEdges:
    """What a wipe may touch. `is_idle`: everything else on this machine has stopped."""

    host: Host
    storage: NodeStorage
    transport: Transport
    partition: DataPartition
    is_idle: Value[bool]


async def end_of_node(ctx: Context, *, edges: FarewellEdges) -> None:
    """Wait for the end of everything else, then go on where the record says."""
    ctx.healthy()
    await edges.is_idle.wait_for(lambda is_idle: is_idle)
    record = await read_wipe_record(edges.storage)
    assert record is not None, "it is written before everything stops"
    if record.farewell_private_key:
        ctx.log_tree.conceal(record.farewell_private_key)
    if record.step == WipeRecord.STEP_ACCEPTED:
        ctx.log.warning("Wiping this machine")
        await wipe(edges.storage, edges.partition)
        record.step = WipeRecord.STEP_WIPED
        await write_wipe_record(edges.storage, record)
    if record.step == WipeRecord.STEP_WIPED:
        if record.farewell_private_key:
            await _report(ctx, edges, record)
        done = WipeRecord(step=WipeRecord.STEP_DONE, node_id=record.node_id)
        await write_wipe_record(edges.storage, done)
    ctx.log.warning("%s was %s", record.node_id, EPITAPH)
    await ctx.wait_cancelled()


async def _report(ctx: Context, edges: FarewellEdges, record: WipeRecord) -> None:
    """Tell the leader, for as long as it takes one that wants to know to answer."""
    key = farewell_key(record)
    request = decommission_pb2.ReportWipedRequest(node_id=record.node_id)
    last_problem = ""
    async with ClusterChannel(
        edges.transport,
        directory_endpoints(record.cluster_directory),
        credentials=Credentials(certificate=issue_ephemeral(key), key=key),
        verify=server_verifier(record.ca_certificate),
        rng=edges.host.entropy.jitter(),
        log=ctx.log,
    ) as channel:
        while True:
            try:
                await channel.call(Farewell.REPORT_WIPED, request, timeout_s=CALL_TIMEOUT_S)
            except MetropolisError as error:
                problem = chain(error)
                if not error.retryable:
                    ctx.log.warning("The cluster does not want to know any more: %s", problem)
                    return
                if problem != last_problem:
                    ctx.log.warning("The cluster does not hear of the wipe yet: %s", problem)
                last_problem = problem
                await asyncio.sleep(RETRY_S)
            else:
                ctx.log.info("The cluster knows that this machine is wiped")
                return
