# SPDX-License-Identifier: Apache-2.0
"""`metroctl cluster recover-quorum`."""

import asyncio
import sys
from typing import Final

import click

from metropolis.api import curator_pb2
from metropolis.api.backup_pb2 import (
    InspectQuorumRequest,
    InspectQuorumResponse,
    RecoverQuorumRequest,
    RecoverQuorumResponse,
)
from metropolis.api.rpc_backup import QuorumRecovery
from metropolis.api.rpc_curator import Curator
from metropolis.base.errors import FailedPreconditionError, MetropolisError
from metropolis.base.ports import NODE_MANAGEMENT_TCP_PORT
from metropolis.ctl import credentials
from metropolis.ctl.choice import context_of
from metropolis.ctl.command_line import command
from metropolis.ctl.connection import connect, make_transport, parse_host
from metropolis.ctl.contexts import Context
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import say
from metropolis.ctl.session import pin_ca, run_async
from metropolis.pki.identity import server_verifier
from metropolis.rpc.channel import Channel
from metropolis.rpc.transport import Endpoint

ALIVE_TIMEOUT_S: Final = 5.0  # how long a leader may take to show that there is one
RECOVERY_TIMEOUT_S: Final = 90.0


@command("recover-quorum")
@click.argument("host")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def recover_quorum(ctx: click.Context, host: str, *, yes: bool) -> None:
    """Go on with one member when the majority of the consensus is lost, for ever.

    HOST is the address of a member that is left; of several take the one that knows most. It
    becomes the only member, with what it has: what was acknowledged by members that are lost and
    never reached it is gone. Members that are lost must never be switched on again: wipe them.
    """
    settings = settings_of(ctx)
    context = context_of(settings)
    credentials.owner_credentials(context)
    ca = pin_ca(settings, context)
    endpoint = Endpoint(parse_host(host), NODE_MANAGEMENT_TCP_PORT)

    async def inspect() -> InspectQuorumResponse:
        if await _has_leader(context):
            raise FailedPreconditionError(
                "the cluster has a leader, so a majority lives: there is nothing to recover",
                remedy="Look at `metroctl consensus status`; remove lost members with "
                "`metroctl node delete`.",
            )
        channel = _dial(context, endpoint, ca)
        try:
            return await channel.call(
                QuorumRecovery.INSPECT_QUORUM, InspectQuorumRequest(), timeout_s=settings.timeout_s
            )
        finally:
            await channel.close()

    async def recover(node_id: str) -> RecoverQuorumResponse:
        channel = _dial(context, endpoint, ca)
        try:
            return await channel.call(
                QuorumRecovery.RECOVER_QUORUM,
                RecoverQuorumRequest(node_id=node_id),
                timeout_s=max(settings.timeout_s, RECOVERY_TIMEOUT_S),
            )
        finally:
            await channel.close()

    found = run_async(settings, inspect(), awaits=f"the node at {host}")
    if found.has_quorum:
        raise FailedPreconditionError(
            f"a majority answers node {found.node_id}: there is nothing to recover",
            remedy="Look at `metroctl consensus status`.",
        )
    _explain(found)
    if not yes:
        _confirm(found.cluster_domain or context.cluster_domain or found.node_id)
    done = run_async(settings, recover(found.node_id), awaits="the member to come up alone")
    say(f"Node {found.node_id} is the only member now, at revision {done.revision}.")
    say("Delete the nodes that are lost, then give the ConsensusMember role to others.")


def _explain(found: InspectQuorumResponse) -> None:
    say(f"Node {found.node_id} becomes the only member of the consensus.")
    if found.error:
        say(f"How much it knows is not known: {found.error}.")
    else:
        say(
            f"It knows everything up to index {found.raft_index} of term {found.raft_term}. "
            "If another member is left that knows more, recover with that one."
        )
    say("What was acknowledged by lost members and never reached it is gone.")
    say("Wipe the lost members: if a majority of them came back, there would be two clusters.")


def _confirm(name: str) -> None:
    """Ask on a terminal.

    Raises:
        FailedPreconditionError: the person did not confirm, or there is none.
    """
    remedy = f"Type {name} in full, or add --yes."
    if not sys.stdin.isatty():
        raise FailedPreconditionError(
            "nothing was recovered: nobody is here to confirm it", remedy="Add --yes."
        )
    print(f"Type the name of the cluster, {name}: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != name:
        raise FailedPreconditionError("nothing was recovered", remedy=remedy)


async def _has_leader(context: Context) -> bool:
    """Whether a leader answers, whichever node it is."""
    try:
        async with (
            asyncio.timeout(ALIVE_TIMEOUT_S),
            connect(context, timeout_s=ALIVE_TIMEOUT_S) as cluster,
        ):
            await cluster.channel.call(
                Curator.GET_CONSENSUS_STATUS,
                curator_pb2.GetConsensusStatusRequest(),
                timeout_s=ALIVE_TIMEOUT_S,
            )
    except (MetropolisError, TimeoutError):
        return False
    return True


def _dial(context: Context, endpoint: Endpoint, ca: bytes) -> Channel:
    return make_transport(context).dial(
        endpoint,
        credentials=credentials.owner_credentials(context),
        verify=server_verifier(ca),
    )
