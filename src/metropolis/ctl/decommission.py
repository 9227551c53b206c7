# SPDX-License-Identifier: Apache-2.0
"""Asks for a decommission and follows it, from leader to leader, to its end."""

import asyncio
from collections.abc import Callable
from typing import Final

from metropolis.api import decommission_pb2
from metropolis.api.decommission_pb2 import DecommissionProgress, DecommissionStep
from metropolis.api.rpc_decommission import Nodes
from metropolis.base.errors import MetropolisError, UnavailableError
from metropolis.rpc.channel import Channel

RETRY_S: Final = 1.0
SILENCE_S_MAX: Final = 60.0  # a failover takes seconds; a leader is new for 15 s
DONE: Final = DecommissionStep.DECOMMISSION_STEP_DONE

Tell = Callable[[DecommissionProgress], None]


async def follow(channel: Channel, node_id: str, *, force: bool, tell: Tell) -> None:
    """Ask, and ask again when the leader changes; returns after the last step.

    Raises:
        MetropolisError: the cluster refuses, or was silent for too long.
    """
    loop = asyncio.get_running_loop()
    last_heard_s = loop.time()
    last: DecommissionProgress | None = None

    def hear(progress: DecommissionProgress) -> None:
        nonlocal last_heard_s, last
        last_heard_s = loop.time()
        if progress != last:
            tell(progress)
        last = progress

    while True:
        try:
            if await _follow_once(channel, node_id, force=force, hear=hear):
                return
        except MetropolisError as error:
            if not error.retryable or loop.time() - last_heard_s > SILENCE_S_MAX:
                raise
        await asyncio.sleep(RETRY_S)


async def _follow_once(channel: Channel, node_id: str, *, force: bool, hear: Tell) -> bool:
    """Read one stream to its end; tell whether that was the end of the decommission."""
    is_done = False
    async with channel.open(Nodes.DECOMMISSION) as stream:
        await stream.send(decommission_pb2.DecommissionRequest(id=node_id, force=force))
        await stream.end()
        while (progress := await stream.receive()) is not None:
            hear(progress)
            is_done = progress.step == DONE
    return is_done


def line(progress: DecommissionProgress) -> str:
    """Say one step on one line. Pure."""
    name = DecommissionStep.Name(progress.step).removeprefix("DECOMMISSION_STEP_")
    return f"{name.lower().replace('_', ' '):<16}  {progress.message}"


async def rotate_ticket(channel: Channel, *, timeout_s: float) -> bytes:
    """Replace the ticket that machines register with; return the new one, a secret.

    Raises:
        UnavailableError: nobody knows whether the ticket was replaced.
    """
    try:
        response = await channel.call(
            Nodes.ROTATE_REGISTER_TICKET,
            decommission_pb2.RotateRegisterTicketRequest(),
            timeout_s=timeout_s,
        )
    except UnavailableError as error:
        raise UnavailableError(
            f"the ticket may or may not have been replaced: {error}",
            remedy="Run it again: another replacement does no harm.",
        ) from error
    return response.ticket
