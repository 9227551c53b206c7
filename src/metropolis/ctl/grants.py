# SPDX-License-Identifier: Apache-2.0
"""Flags that say what is given or taken, and how what somebody holds is told."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from metropolis.api.users_pb2 import Grants
from metropolis.base.errors import InvalidArgumentError


def permission_flags(*, groups: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds --role and --permission, and if wanted --group."""
    options = [
        click.option(
            "--role", "roles", multiple=True, metavar="ROLE", help="viewer, node-admin or operator."
        ),
        click.option(
            "--permission",
            "permissions",
            multiple=True,
            metavar="PERMISSION",
            help="A single permission, e.g. node.approve.",
        ),
    ]
    if groups:
        options.append(
            click.option("--group", "groups", multiple=True, metavar="GROUP", help="A membership.")
        )

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def grants_of_flags(flags: Mapping[str, Sequence[str]], *, needs_one: bool = False) -> Grants:
    """Return what the flags name; commas separate, too.

    Raises:
        InvalidArgumentError: they name nothing, though they must.
    """
    named = {
        name: [part for text in texts for part in text.split(",")] for name, texts in flags.items()
    }
    grants = Grants(
        roles=named.get("roles"), permissions=named.get("permissions"), groups=named.get("groups")
    )
    if needs_one and not (grants.roles or grants.permissions or grants.groups):
        raise InvalidArgumentError(
            "nothing was named", remedy="Name it with --role, --permission or --group."
        )
    return grants


def spoken(grants: Grants) -> str:
    """Tell people what somebody holds."""
    parts = [
        ("the role", grants.roles),
        ("the permission", grants.permissions),
        ("the membership in", grants.groups),
    ]
    told = [f"{what} {', '.join(names)}" for what, names in parts if names]
    return " and ".join(told) or "nothing"
