# SPDX-License-Identifier: Apache-2.0
"""`metroctl consensus status|defragment`."""

from collections.abc import Sequence

import click

from metropolis.api.introspection_pb2 import (
    ConsensusMemberHealth,
    DefragmentRequest,
    DefragmentResponse,
)
from metropolis.api.rpc_introspection import ConsensusUpkeep
from metropolis.base.ports import NODE_MANAGEMENT_TCP_PORT
from metropolis.ctl.choice import context_of
from metropolis.ctl.command_line import command
from metropolis.ctl.connection import Cluster, make_transport, parse_host
from metropolis.ctl.contexts import Context
from metropolis.ctl.documents import document_of
from metropolis.ctl.members import ask_members, summary
from metropolis.ctl.nodes import list_nodes
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import emit, painter, say
from metropolis.ctl.session import pin_ca, run, run_async
from metropolis.ctl.text_table import render
from metropolis.ctl.user_credentials import shown_credentials
from metropolis.pki.credentials import Credentials
from metropolis.pki.identity import server_verifier
from metropolis.rpc.channel import Channel
from metropolis.rpc.transport import Endpoint

_DEFRAGMENT_S = 130.0  # twice what a member allows itself for a step
_HEADERS = ("NODE ID", "VOTES", "LEADER", "REACHABLE", "RAFT INDEX", "ERROR")


@command("status")
@click.pass_context
def consensus_status(ctx: click.Context) -> None:
    """Show members and votes.

    Changes need the votes of more than half of the voting members.
    """
    settings = settings_of(ctx)

    async def ask(cluster: Cluster) -> Sequence[ConsensusMemberHealth]:
        found = await list_nodes(cluster.channel, timeout_s=cluster.timeout_s)
        return await ask_members(cluster, found)

    members = run(settings, ask)
    rows = [_row(member) for member in members]
    emit(
        settings,
        data=lambda: [document_of(member) for member in members],
        text=lambda: render(_HEADERS, rows, paint=painter(settings)),
    )
    say(summary(members))


@command("defragment")
@click.argument("hosts", metavar="[HOST...]", nargs=-1)
@click.pass_context
def consensus_defragment(ctx: click.Context, hosts: Sequence[str]) -> None:
    """Have consensus members give room back that they do not need, one after the other.

    Each forgets the history of the store and rewrites its database file, during which it answers
    nobody; then a store that was full takes changes again. HOST... are addresses of members:
    name them when no leader is found. Without, all members that can be reached, the leader last.
    """
    settings = settings_of(ctx)
    if hosts:
        context = context_of(settings)
        ca, shown = pin_ca(settings, context), shown_credentials(context)
        done = run_async(
            settings,
            _defragment_hosts([parse_host(host) for host in hosts], context, ca, shown),
            awaits=", ".join(hosts),
        )
    else:
        done = run(settings, _defragment_all)
    rows = [
        (each.node_id, str(each.before_bytes), str(each.after_bytes), each.complaint)
        for each in done
    ]
    emit(
        settings,
        data=lambda: [document_of(each) for each in done],
        text=lambda: render(("NODE ID", "BYTES BEFORE", "BYTES NOW", "COMPLAINS"), rows),
    )


async def _defragment_all(cluster: Cluster) -> Sequence[DefragmentResponse]:
    found = {
        node.id: node for node in await list_nodes(cluster.channel, timeout_s=cluster.timeout_s)
    }
    members = await ask_members(cluster, list(found.values()))
    done: list[DefragmentResponse] = []
    for member in sorted(members, key=lambda each: each.is_leader):
        if not member.reachable:
            say(f"Node {member.id} cannot be reached: {member.error}")
            continue
        async with cluster.dial_node(found[member.id]) as channel:
            done.append(await _defragment(channel))
    return done


async def _defragment_hosts(
    hosts: Sequence[str], context: Context, ca: bytes, shown: Credentials
) -> Sequence[DefragmentResponse]:
    done: list[DefragmentResponse] = []
    for host in hosts:
        channel = make_transport(context).dial(
            Endpoint(host, NODE_MANAGEMENT_TCP_PORT), credentials=shown, verify=server_verifier(ca)
        )
        try:
            done.append(await _defragment(channel))
        finally:
            await channel.close()
    return done


async def _defragment(channel: Channel) -> DefragmentResponse:
    request = DefragmentRequest()
    return await channel.call(ConsensusUpkeep.DEFRAGMENT, request, timeout_s=_DEFRAGMENT_S)


def _row(member: ConsensusMemberHealth) -> Sequence[str]:
    return (
        member.id,
        "yes" if member.voter else "learner" if member.learner else "no",
        "yes" if member.is_leader else "",
        "yes" if member.reachable else "UNREACHABLE",
        str(member.raft_index or "") if member.reachable else "",
        member.error,
    )
