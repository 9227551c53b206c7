# SPDX-License-Identifier: Apache-2.0
"""`metroctl auth can-i`, `metroctl whoami` and `metroctl auth rotate-owner-key`."""

import click

from metropolis.api import users_pb2
from metropolis.api.rpc_users import Users
from metropolis.ctl.command_line import command
from metropolis.ctl.connection import Cluster
from metropolis.ctl.documents import document_of
from metropolis.ctl.grants import spoken
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import emit, say
from metropolis.ctl.session import run

_KINDS = users_pb2.WhoAmIResponse


@command("can-i")
@click.argument("what")
@click.pass_context
def can_i(ctx: click.Context, what: str) -> None:
    """Say whether you may do something.

    WHAT is a permission such as node.approve, or a method such as ApproveNode. The answer is
    yes or no, the exit status 0 or 1.
    """
    settings = settings_of(ctx)
    request = users_pb2.CanIRequest()
    if "." in what and "/" not in what and what == what.lower():
        request.permission = what
    else:
        request.method = what

    async def act(cluster: Cluster) -> users_pb2.CanIResponse:
        return await cluster.channel.call(Users.CAN_I, request, timeout_s=cluster.timeout_s)

    answer = run(settings, act)
    emit(settings, data=document_of(answer), text="yes\n" if answer.allowed else "no\n")
    if not answer.allowed:
        roles = f"; {' and '.join(answer.roles)} would do" if answer.roles else ""
        say(f"You lack {', '.join(answer.missing)}{roles}.")
        ctx.exit(1)


@command("whoami")
@click.pass_context
def whoami(ctx: click.Context) -> None:
    """Say who you are to the cluster, and what you may do."""
    settings = settings_of(ctx)

    async def act(cluster: Cluster) -> users_pb2.WhoAmIResponse:
        request = users_pb2.WhoAmIRequest()
        return await cluster.channel.call(Users.WHO_AM_I, request, timeout_s=cluster.timeout_s)

    answer = run(settings, act)
    emit(settings, data=lambda: document_of(answer), text=lambda: _text(answer))


@command("rotate-owner-key")
@click.pass_context
def rotate_owner_key(ctx: click.Context) -> None:
    """Replace the owner's key.

    The old key and its certificate are refused from then on, wherever copies of them are. It may
    be repeated when it was interrupted.
    """
    from metropolis.ctl.choice import context_of  # noqa: PLC0415  # only here
    from metropolis.ctl.owner_rotation import finish, rotate  # noqa: PLC0415
    from metropolis.ctl.session import run_async, where  # noqa: PLC0415

    settings = settings_of(ctx)
    context = context_of(settings)
    if run_async(
        settings,
        finish(context, timeout_s=settings.timeout_s),
        awaits=f"the cluster ({where(context)})",
    ):
        say("The rotation that was interrupted is done. The old key is refused from now on.")
        return
    run(settings, lambda cluster: rotate(context, cluster))
    say("The owner's key was replaced. The old one is refused from now on.")


def _text(answer: users_pb2.WhoAmIResponse) -> str:
    name = {
        _KINDS.KIND_OWNER: "owner",
        _KINDS.KIND_NODE: f"node {answer.name}",
        _KINDS.KIND_USER: answer.name,
    }.get(answer.kind, answer.name)
    lines = [("name", name)]
    if answer.kind == _KINDS.KIND_USER:
        lines.append(("holds", spoken(answer.grants)))
    may = "everything" if answer.kind == _KINDS.KIND_OWNER else ", ".join(answer.permissions)
    lines.append(("may", may or "nothing"))
    if answer.HasField("not_after"):
        lines.append(("until", f"{answer.not_after.ToDatetime():%Y-%m-%d %H:%M} UTC"))
    return "".join(f"{key:<8}{value}\n" for key, value in lines)
