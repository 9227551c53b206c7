# SPDX-License-Identifier: Apache-2.0
"""`metroctl cluster introduce`."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click

from metropolis.api import backup_pb2 as wire
from metropolis.api.rpc_backup import QuorumRecovery
from metropolis.base.errors import FailedPreconditionError, MetropolisError
from metropolis.base.ports import NODE_MANAGEMENT_TCP_PORT
from metropolis.ctl import contexts, credentials
from metropolis.ctl.choice import context_of
from metropolis.ctl.command_line import command
from metropolis.ctl.connection import make_transport, parse_host
from metropolis.ctl.contexts import Context
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import say
from metropolis.ctl.session import pin_ca, run_async
from metropolis.pki.identity import server_verifier
from metropolis.rpc.transport import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class _Guests:
    """Who was found where; `silent` says why of the addresses that did not answer."""

    found: Mapping[str, str]
    silent: Mapping[str, MetropolisError]


@command("introduce")
@click.argument("hosts", metavar="HOST...", nargs=-1, required=True)
@click.pass_context
def introduce(ctx: click.Context, hosts: Sequence[str]) -> None:
    """Tell nodes that all moved at once where the others are now.

    HOST... are the present addresses of all consensus members, and of other nodes that find
    nobody. A node that moves alone needs no help, nor does a majority that stays.
    """
    settings = settings_of(ctx)
    context = context_of(settings)
    credentials.owner_credentials(context)
    ca = pin_ca(settings, context)
    asked = [parse_host(host) for host in hosts]

    async def ask(host: str, told: Mapping[str, str]) -> str:
        """Tell one node, and return its id."""
        channel = make_transport(context).dial(
            Endpoint(host, NODE_MANAGEMENT_TCP_PORT),
            credentials=credentials.owner_credentials(context),
            verify=server_verifier(ca),
        )
        request = wire.IntroduceNodesRequest()
        for node_id, address in told.items():
            request.nodes.add(id=node_id, host=address)
        try:
            response = await channel.call(
                QuorumRecovery.INTRODUCE_NODES, request, timeout_s=settings.timeout_s
            )
        finally:
            await channel.close()
        return response.node_id

    async def look() -> _Guests:
        answers = await asyncio.gather(*(ask(each, {}) for each in asked), return_exceptions=True)
        found: dict[str, str] = {}
        silent: dict[str, MetropolisError] = {}
        for host, answer in zip(asked, answers, strict=True):
            if isinstance(answer, MetropolisError):
                silent[host] = answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found[answer] = host
        return _Guests(found=found, silent=silent)

    async def tell(found: Mapping[str, str]) -> None:
        await asyncio.gather(*(ask(host, found) for host in found.values()))

    guests = run_async(settings, look(), awaits=", ".join(asked))
    for host, error in guests.silent.items():
        say(f"{host} does not answer: {error}")
    if not guests.found:
        raise FailedPreconditionError(
            "none of these addresses is that of a node of the cluster",
            remedy="Look at the consoles of the machines: each prints its address.",
        )
    run_async(settings, tell(guests.found), awaits=", ".join(guests.found.values()))
    for node_id, host in guests.found.items():
        say(f"Node {node_id} at {host} knows where the others are.")
    _remember(context, tuple(guests.found.values()))
    say("When a majority of the consensus members has met, the cluster goes on by itself.")


def _remember(context: Context, found: tuple[str, ...]) -> None:
    """Have a named context reach the cluster where it is now; it is nowhere else."""
    if not context.name:
        return
    contexts.create(
        contexts.default_root(),
        context.name,
        endpoints=found,
        proxy=context.proxy,
        cluster_domain=context.cluster_domain,
    )
    say(f"Context {context.name} has these endpoints from now on: {', '.join(found)}.")
