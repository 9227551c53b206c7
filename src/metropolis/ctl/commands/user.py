# SPDX-License-Identifier: Apache-2.0
"""`metroctl user` and what stands behind it, but for logging in and groups."""

from collections.abc import Sequence

import click
from google.protobuf.duration_pb2 import Duration

from metropolis.api import users_pb2
from metropolis.api.rpc_users import Users
from metropolis.base.errors import InvalidArgumentError
from metropolis.ctl.command_line import command
from metropolis.ctl.connection import Cluster
from metropolis.ctl.documents import document_of
from metropolis.ctl.grants import grants_of_flags, permission_flags, spoken
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import emit, say
from metropolis.ctl.session import run
from metropolis.ctl.text_table import render

_COLUMNS = ("NAME", "ROLES", "GROUPS", "PERMISSIONS", "CERTIFICATES", "UNTIL", "PASSWORD UNTIL")
_HOUR_S = 3600


@command("create")
@click.argument("name")
@permission_flags(groups=True)
@click.pass_context
def user_create(ctx: click.Context, /, name: str, **flags: Sequence[str]) -> None:
    """Make a user.

    It can do nothing until somebody logs in as it: `metroctl user password NAME` makes the
    password for that.
    """
    request = users_pb2.CreateUserRequest(name=name, grants=grants_of_flags(flags))

    async def act(cluster: Cluster) -> None:
        await cluster.channel.call(Users.CREATE_USER, request, timeout_s=cluster.timeout_s)
        say(f"Created user {name}. Run `metroctl user password {name}` to let somebody log in.")

    run(settings_of(ctx), act)


@command("list")
@click.pass_context
def user_list(ctx: click.Context) -> None:
    """List users and what they hold."""
    settings = settings_of(ctx)

    async def act(cluster: Cluster) -> users_pb2.ListUsersResponse:
        return await cluster.channel.call(
            Users.LIST_USERS, users_pb2.ListUsersRequest(), timeout_s=cluster.timeout_s
        )

    found = run(settings, act).users
    if not found:
        say("There are no users but the owner.")
    emit(
        settings,
        data=lambda: [document_of(user) for user in found],
        text=lambda: render(_COLUMNS, map(_row, found)) if found else "",
    )


@command("delete")
@click.argument("name")
@click.pass_context
def user_delete(ctx: click.Context, name: str) -> None:
    """Forget a user.

    Its certificates are refused from then on, and its open connections are closed.
    """

    async def act(cluster: Cluster) -> None:
        request = users_pb2.DeleteUserRequest(name=name)
        await cluster.channel.call(Users.DELETE_USER, request, timeout_s=cluster.timeout_s)
        say(f"Deleted user {name}.")

    run(settings_of(ctx), act)


@command("grant")
@click.argument("name")
@permission_flags(groups=True)
@click.pass_context
def user_grant(ctx: click.Context, /, name: str, **flags: Sequence[str]) -> None:
    """Give roles, permissions and memberships to a user."""
    request = users_pb2.GrantRequest(user=name, grants=grants_of_flags(flags, needs_one=True))

    async def act(cluster: Cluster) -> None:
        held = await cluster.channel.call(Users.GRANT, request, timeout_s=cluster.timeout_s)
        say(f"User {name} holds {spoken(held.grants)}.")

    run(settings_of(ctx), act)


@command("revoke")
@click.argument("name")
@permission_flags(groups=True)
@click.pass_context
def user_revoke(ctx: click.Context, /, name: str, **flags: Sequence[str]) -> None:
    """Take roles, permissions and memberships from a user."""
    request = users_pb2.RevokeRequest(user=name, grants=grants_of_flags(flags, needs_one=True))

    async def act(cluster: Cluster) -> None:
        held = await cluster.channel.call(Users.REVOKE, request, timeout_s=cluster.timeout_s)
        say(f"User {name} holds {spoken(held.grants)}.")

    run(settings_of(ctx), act)


@command("password")
@click.argument("name")
@click.option(
    "--hours",
    type=click.IntRange(min=1, max=168),
    default=24,
    help="How long it can be used (default 24, at most 168).",
)
@click.pass_context
def user_password(ctx: click.Context, name: str, hours: int) -> None:
    """Make a password that works once.

    Somebody can log in as the user with it. It is printed this once, and a password made before
    stops working.
    """
    settings = settings_of(ctx)
    request = users_pb2.IssuePasswordRequest(user=name, lifetime=Duration(seconds=hours * _HOUR_S))

    async def act(cluster: Cluster) -> users_pb2.IssuePasswordResponse:
        return await cluster.channel.call(
            Users.ISSUE_PASSWORD, request, timeout_s=cluster.timeout_s
        )

    answer = run(settings, act)
    emit(settings, data=lambda: document_of(answer), text=f"{answer.password}\n", mode=0o600)
    say(
        f"It works once, until {answer.expires.ToDatetime():%Y-%m-%d %H:%M} UTC. "
        f"Whoever has it runs `metroctl user login {name}`."
    )


@command("revoke-certificates")
@click.argument("name")
@click.option("--all", "is_all", is_flag=True, help="All of them, and the password.")
@click.option("--serial", metavar="HEX", help="The one with this serial number.")
@click.option("--key", metavar="HEX", help="Those for this public key.")
@click.pass_context
def user_revoke_certificates(
    ctx: click.Context, name: str, *, is_all: bool, serial: str | None, key: str | None
) -> None:
    """Refuse certificates of a user from now on.

    Say, of a laptop that was lost. The user itself stays, and can log in with a new password.
    """
    if (is_all, serial is not None, key is not None).count(True) != 1:
        raise InvalidArgumentError(
            "exactly one of --all, --serial and --key says which certificates",
            remedy="Look at them with `metroctl user list -o json`, or give --all.",
        )
    request = users_pb2.RevokeCertificatesRequest(user=name)
    if serial is not None:
        request.serial = _bytes_of(serial)
    elif key is not None:
        request.public_key = _bytes_of(key)
    else:
        request.all.SetInParent()

    async def act(cluster: Cluster) -> None:
        answer = await cluster.channel.call(
            Users.REVOKE_CERTIFICATES, request, timeout_s=cluster.timeout_s
        )
        say(f"{len(answer.revoked)} certificates of user {name} are refused from now on.")

    run(settings_of(ctx), act)


def _bytes_of(text: str) -> bytes:
    try:
        return bytes.fromhex(text.replace(":", ""))
    except ValueError:
        raise InvalidArgumentError(
            f"{text[:64]!r} is no hexadecimal number",
            remedy="Give the digits alone, or with colons between them.",
        ) from None


def _row(user: users_pb2.User) -> tuple[str, ...]:
    if user.is_damaged:
        return (user.name, "(damaged)", "", "", "", "", "")
    ends = [each.not_after.ToDatetime() for each in user.certificates]
    has_password = user.HasField("password_expires")
    return (
        user.name,
        ",".join(user.grants.roles),
        ",".join(user.grants.groups),
        ",".join(user.grants.permissions),
        str(len(user.certificates)),
        f"{max(ends):%Y-%m-%d}" if ends else "",
        f"{user.password_expires.ToDatetime():%Y-%m-%d %H:%M}" if has_password else "",
    )
