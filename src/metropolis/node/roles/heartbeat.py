# SPDX-License-Identifier: Apache-2.0
"""Shows the leader that this node lives, three times within the time after which it would doubt."""

import asyncio
from typing import Final

from metropolis.api import curator_pb2
from metropolis.api.rpc_curator import Curator
from metropolis.base.errors import MetropolisError, UnavailableError, chain
from metropolis.node.roles.edges import RoleEdges
from metropolis.rpc.channel import Channel
from metropolis.supervision import Context

INTERVAL_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 5.0
RETRY_S: Final = 1.0  # well within the timeout of 15 s: a new leader hears of us at once


async def heartbeat(ctx: Context, *, edges: RoleEdges) -> None:
    """Beat on one stream for as long as it lasts, and open the next one when it breaks."""
    await edges.wait_connection()
    ctx.healthy()
    last_problem = ""
    while True:
        connection = await edges.wait_connection()
        try:
            await _beat(ctx, edges, connection.channel)
        except MetropolisError as error:
            problem = f"{chain(error)}. {error.remedy}"
            if problem != last_problem:
                ctx.log.warning("No heartbeat reaches the leader: %s", problem)
            last_problem = problem
        await asyncio.sleep(RETRY_S)


async def _beat(ctx: Context, edges: RoleEdges, channel: Channel) -> None:
    loop = asyncio.get_running_loop()
    async with channel.open(Curator.HEARTBEAT) as stream:
        announced = False
        while True:
            sent_s = loop.time()
            await stream.send(curator_pb2.HeartbeatRequest())
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    answer = await stream.receive()
            except TimeoutError as cause:
                raise UnavailableError("the leader did not answer a heartbeat in time") from cause
            if answer is None:
                raise UnavailableError("the leader ended the heartbeat stream")
            edges.heartbeat_s.set(edges.host.clock.monotonic_s())
            if not announced:
                ctx.log.info("The leader hears this node's heartbeats")
                announced = True
            await asyncio.sleep(max(0.0, sent_s + INTERVAL_S - loop.time()))
