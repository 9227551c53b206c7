# SPDX-License-Identifier: Apache-2.0
"""Hears from the leader which users are admitted to this node's servers, and what they may do.

The stream is opened anew when another node leads, and when it has been silent for longer than a
leader ever is: else a leader that froze would keep this node deaf.
"""

import asyncio
from typing import Final

from metropolis.api.rpc_users import Users
from metropolis.api.users_pb2 import WatchAccessRequest
from metropolis.base.errors import MetropolisError, UnavailableError, chain
from metropolis.cluster.access import BEAT_S
from metropolis.node.roles.edges import RoleEdges
from metropolis.rpc.resolver import ClusterChannel
from metropolis.supervision import Context

RETRY_S: Final = 1.0
SILENCE_S: Final = BEAT_S * 1.5  # then the stream is dead, whatever it says


async def access(ctx: Context, *, edges: RoleEdges) -> None:
    """Follow the leader's table for as long as this node runs."""
    connection = await edges.wait_connection()
    ctx.healthy()
    last_problem = ""
    while True:
        try:
            await _until_another_leads(connection.channel, edges)
        except MetropolisError as error:
            problem = chain(error)
            if problem != last_problem:
                ctx.log.warning("Cannot hear which users are admitted: %s", problem)
            last_problem = problem
        else:
            last_problem = ""
        await asyncio.sleep(RETRY_S)


async def _until_another_leads(channel: ClusterChannel, edges: RoleEdges) -> None:
    async with asyncio.TaskGroup() as group:
        following = group.create_task(_follow(channel, edges))
        changing = group.create_task(channel.wait_leader_change())
        await asyncio.wait((following, changing), return_when=asyncio.FIRST_COMPLETED)
        following.cancel()
        changing.cancel()
    failure = None if following.cancelled() else following.result()
    if failure is not None:
        raise failure


async def _follow(channel: ClusterChannel, edges: RoleEdges) -> MetropolisError:
    """Return why the stream ended."""
    try:
        async with channel.open(Users.WATCH_ACCESS) as stream:
            await stream.send(WatchAccessRequest())
            await stream.end()
            while True:
                async with asyncio.timeout(SILENCE_S):
                    event = await stream.receive()
                if event is None:
                    return UnavailableError("the leader ended the stream of users")
                edges.access.hear(event)
    except TimeoutError:
        return UnavailableError(f"the leader has been silent for {SILENCE_S:.0f} s")
    except MetropolisError as error:
        return error
