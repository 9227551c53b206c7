# SPDX-License-Identifier: Apache-2.0
"""`metroctl user group create`, `list`, `delete`, `grant` and `revoke`."""

from collections.abc import Sequence

import click

from metropolis.api import users_pb2
from metropolis.api.rpc_users import Users
from metropolis.ctl.command_line import command
from metropolis.ctl.connection import Cluster
from metropolis.ctl.documents import document_of
from metropolis.ctl.grants import grants_of_flags, permission_flags, spoken
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import emit, say
from metropolis.ctl.session import run
from metropolis.ctl.text_table import render


@command("create")
@click.argument("name")
@permission_flags(groups=False)
@click.pass_context
def group_create(ctx: click.Context, /, name: str, **flags: Sequence[str]) -> None:
    """Make a group.

    `metroctl user grant USER --group NAME` makes members.
    """
    request = users_pb2.CreateGroupRequest(name=name, grants=grants_of_flags(flags))

    async def act(cluster: Cluster) -> None:
        await cluster.channel.call(Users.CREATE_GROUP, request, timeout_s=cluster.timeout_s)
        say(f"Created group {name}.")

    run(settings_of(ctx), act)


@command("list")
@click.pass_context
def group_list(ctx: click.Context) -> None:
    """List groups."""
    settings = settings_of(ctx)

    async def act(cluster: Cluster) -> users_pb2.ListUsersResponse:
        return await cluster.channel.call(
            Users.LIST_USERS, users_pb2.ListUsersRequest(), timeout_s=cluster.timeout_s
        )

    found = run(settings, act).groups
    if not found:
        say("There are no groups.")
    rows = [
        (
            group.name,
            "(damaged)" if group.is_damaged else ",".join(group.grants.roles),
            ",".join(group.grants.permissions),
            ",".join(group.members),
        )
        for group in found
    ]
    emit(
        settings,
        data=lambda: [document_of(group) for group in found],
        text=lambda: render(("NAME", "ROLES", "PERMISSIONS", "MEMBERS"), rows) if found else "",
    )


@command("delete")
@click.argument("name")
@click.pass_context
def group_delete(ctx: click.Context, name: str) -> None:
    """Forget an empty group."""

    async def act(cluster: Cluster) -> None:
        request = users_pb2.DeleteGroupRequest(name=name)
        await cluster.channel.call(Users.DELETE_GROUP, request, timeout_s=cluster.timeout_s)
        say(f"Deleted group {name}.")

    run(settings_of(ctx), act)


@command("grant")
@click.argument("name")
@permission_flags(groups=False)
@click.pass_context
def group_grant(ctx: click.Context, /, name: str, **flags: Sequence[str]) -> None:
    """Give roles and permissions to a group."""
    request = users_pb2.GrantRequest(group=name, grants=grants_of_flags(flags, needs_one=True))

    async def act(cluster: Cluster) -> None:
        held = await cluster.channel.call(Users.GRANT, request, timeout_s=cluster.timeout_s)
        say(f"Group {name} gives {spoken(held.grants)}.")

    run(settings_of(ctx), act)


@command("revoke")
@click.argument("name")
@permission_flags(groups=False)
@click.pass_context
def group_revoke(ctx: click.Context, /, name: str, **flags: Sequence[str]) -> None:
    """Take roles and permissions from a group."""
    request = users_pb2.RevokeRequest(group=name, grants=grants_of_flags(flags, needs_one=True))

    async def act(cluster: Cluster) -> None:
        held = await cluster.channel.call(Users.REVOKE, request, timeout_s=cluster.timeout_s)
        say(f"Group {name} gives {spoken(held.grants)}.")

    run(settings_of(ctx), act)
