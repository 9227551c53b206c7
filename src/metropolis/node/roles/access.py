# SPDX-License-Identifier: Apache-2.0
"""Hears from the leader which users are admitted to this node's servers, and what they may do.

The stream is opened anew when another node leads, and when it has been silent for longer than a
leader ever is: else a leader that froze would keep this node deaf.

Of all that only the owner's key, once it was replaced, is kept on disk: a node that starts without
hearing anybody admits the owner, and must not take the thief of the old key for it.
"""

import asyncio
from typing import Final

from metropolis.api.rpc_users import Users
from metropolis.api.users_pb2 import WatchAccessRequest
from metropolis.base.errors import MetropolisError, UnavailableError, chain
from metropolis.cluster.access import BEAT_S
from metropolis.node.roles.edges import RoleEdges
from metropolis.node.storage import OWNER_KEY
from metropolis.rpc.resolver import ClusterChannel
from metropolis.supervision import Context

RETRY_S: Final = 1.0
DAMAGED: Final = b"damaged"  # equals no key
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


async def recall_owner_key(edges: RoleEdges) -> None:
    """Let this node's servers know which key was the owner's when it last heard."""
    stored = await edges.storage.read(OWNER_KEY)
    if stored is not None:
        edges.access.recall(stored or DAMAGED)


async def _keep_owner_key(edges: RoleEdges) -> None:
    key = edges.access.current.table.owner_public_key
    if key and await edges.storage.read(OWNER_KEY) != key:
        await edges.storage.write(OWNER_KEY, key)


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
                if edges.access.hear(event):
                    await _keep_owner_key(edges)
    except TimeoutError:
        return UnavailableError(f"the leader has been silent for {SILENCE_S:.0f} s")
    except MetropolisError as error:
        return error
