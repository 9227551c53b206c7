# SPDX-License-Identifier: Apache-2.0
"""Gives learners their vote, once they have caught up, on the node whose member leads.

etcd itself refuses a learner whose log is behind, so it is simply asked again.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from metropolis.base.errors import (
    FailedPreconditionError,
    MetropolisError,
    NotFoundError,
    chain,
)
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.store import Member
from metropolis.supervision import Context, Value

INTERVAL_S: Final = 1.0


async def promote_learners(ctx: Context, *, status: Value[ConsensusStatus | None]) -> None:
    """Run for ever; acts only while the local member leads."""
    ctx.healthy()
    waiting_for = ""
    while True:
        current = await status.wait_for(lambda value: value is not None)
        assert current is not None
        try:
            reasons = await _promote(ctx, current)
        except MetropolisError as error:
            reasons = (f"the consensus: {chain(error)}",)
        text = ", ".join(reasons)
        if text and text != waiting_for:
            ctx.log.info("Waiting for %s", text)
        waiting_for = text
        await asyncio.sleep(INTERVAL_S)


async def _promote(ctx: Context, current: ConsensusStatus) -> Sequence[str]:
    """Promote who is ready; return what the others wait for."""
    if (await current.store.status()).leader_id != current.member_id:
        return ()
    learners = [member for member in await current.membership.members() if member.is_learner]
    reasons = [await _promote_one(ctx, current, learner) for learner in learners]
    return [reason for reason in reasons if reason]


async def _promote_one(ctx: Context, current: ConsensusStatus, learner: Member) -> str:
    if not learner.has_started:
        return f"learner {learner.name} to start"
    try:
        await current.membership.promote(learner.member_id)
    except FailedPreconditionError as error:
        return f"learner {learner.name} to become ready: {error}"
    except NotFoundError:
        return ""  # removed in between
    ctx.log.info("Promoted learner %s: it votes now", learner.name)
    return ""
