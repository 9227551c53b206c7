# SPDX-License-Identifier: Apache-2.0
"""What a node does when its cluster takes it out of service: it says goodbye, and lets go.

It makes a key that proves nothing but that this machine is wiped, tells the leader which one it
is, and writes down that nothing can stop the wipe from now on. `metropolis.node.farewell` goes on
from there, when everything else has stopped.
"""

import asyncio
from typing import Final

from metropolis.api import decommission_pb2
from metropolis.api.decommission_pb2 import WipeRecord
from metropolis.api.rpc_decommission import Farewell
from metropolis.base.errors import MetropolisError, chain
from metropolis.node.enrolment.join import read_cluster_directory
from metropolis.node.farewell.record import farewell_key, read_wipe_record, write_wipe_record
from metropolis.node.identity import NodeIdentity
from metropolis.node.roles.edges import RoleEdges
from metropolis.pki import keys
from metropolis.rpc.status import NodeDeletedError
from metropolis.supervision import Context

RETRY_S: Final = 1.0


async def farewell(ctx: Context, *, edges: RoleEdges) -> None:
    """Wait for the order, accept it, and set `must_wipe`."""
    ctx.healthy()
    await edges.is_retired.wait_for(lambda is_retired: is_retired)
    identity = await edges.wait_identity()
    ctx.log.warning("This node is being decommissioned: it is going to wipe this machine")
    record = await _prepare(edges, identity)
    ctx.log_tree.conceal(record.farewell_private_key)
    if not await _accept(ctx, edges, record):
        record.ClearField("farewell_private_key")  # nobody waits for a report
    record.step = WipeRecord.STEP_ACCEPTED
    await write_wipe_record(edges.storage, record)
    edges.must_wipe.set(True)
    await ctx.wait_cancelled()


async def _prepare(edges: RoleEdges, identity: NodeIdentity) -> WipeRecord:
    """Return the record that is on the disk, or a new one: a node has one farewell key."""
    found = await read_wipe_record(edges.storage)
    if found is not None:
        return found
    record = WipeRecord(
        step=WipeRecord.STEP_PREPARED,
        node_id=identity.node_id,
        farewell_private_key=keys.generate_key(edges.host.entropy).private_bytes_raw(),
        ca_certificate=identity.ca_certificate,
        cluster_directory=await read_cluster_directory(edges.storage),
    )
    await write_wipe_record(edges.storage, record)
    return record


async def _accept(ctx: Context, edges: RoleEdges, record: WipeRecord) -> bool:
    """Tell the leader the key; False when it has given this node up already."""
    request = decommission_pb2.AcceptWipeRequest(
        farewell_public_key=keys.raw_public_key(farewell_key(record))
    )
    last_problem = ""
    while True:
        connection = await edges.wait_connection()
        try:
            await connection.channel.call(Farewell.ACCEPT_WIPE, request)
        except NodeDeletedError as error:
            ctx.log.warning("The leader waits for no report: %s", chain(error))
            return False
        except MetropolisError as error:
            problem = chain(error)
            if problem != last_problem:
                ctx.log.warning("The leader does not hear that this node goes: %s", problem)
            last_problem = problem
            await asyncio.sleep(RETRY_S)
        else:
            return True
