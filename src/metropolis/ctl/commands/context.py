# SPDX-License-Identifier: Apache-2.0
"""`metroctl context list`, `show`, `use` and `remove`."""

import sys
from typing import Any, cast

import click

from metropolis.base.errors import FailedPreconditionError
from metropolis.ctl import contexts
from metropolis.ctl.choice import context_of
from metropolis.ctl.command_line import command
from metropolis.ctl.completions import complete_contexts
from metropolis.ctl.contexts import Context
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import emit, say
from metropolis.ctl.text_table import render

_HEADERS = ("NAME", "CURRENT", "OWNER", "CLUSTER", "PROXY", "ENDPOINTS")


@command("list")
@click.pass_context
def context_list(ctx: click.Context) -> None:
    """List contexts."""
    settings = settings_of(ctx)
    root = contexts.default_root()
    current = contexts.current_name(root)
    found = [contexts.load(root, name) for name in contexts.names(root)]
    if not found:
        say("There are no contexts. `metropolis launch` makes one.")
    rows = [
        (
            each.name,
            "yes" if each.name == current else "",
            "yes" if each.is_owner else "a user" if each.is_user else "not yet",
            each.cluster_domain,
            each.proxy or "",
            ",".join(each.endpoints),
        )
        for each in found
    ]
    emit(
        settings,
        data=lambda: [{**_document(each), "current": each.name == current} for each in found],
        text=lambda: render(_HEADERS, rows) if found else "",
    )


@command("show")
@click.argument("name", required=False, shell_complete=complete_contexts)
@click.pass_context
def context_show(ctx: click.Context, name: str | None) -> None:
    """Show a context, the current one if none is named."""
    from metropolis.ctl import credentials as owner  # noqa: PLC0415  # the only one with keys
    from metropolis.pki.certificates import fingerprint  # noqa: PLC0415

    settings = settings_of(ctx)
    settings.context = name or settings.context
    context = context_of(settings)
    ca = owner.read_ca(context)
    document = {**_document(context), "ca_fingerprint": fingerprint(ca) if ca else None}
    width = max(map(len, document)) + 3
    lines = [
        f"{key.replace('_', ' '):<{width}}{_plain(value)}\n" for key, value in document.items()
    ]
    emit(settings, data=document, text="".join(lines))


@command("use")
@click.argument("name", shell_complete=complete_contexts)
def context_use(name: str) -> None:
    """Make a context the current one."""
    contexts.select(contexts.default_root(), name)
    say(f"The current context is {name}.")


@command("remove")
@click.argument("name", shell_complete=complete_contexts)
@click.option("--yes", is_flag=True, help="Do not ask.")
def context_remove(name: str, *, yes: bool) -> None:
    """Delete a context with its keys.

    Without a copy of its owner key nobody can own that cluster again.
    """
    root = contexts.default_root()
    context = contexts.load(root, name)
    if not yes:
        _confirm(context)
    contexts.remove(root, name)
    say(f"Removed context {name}.")


def _confirm(context: Context) -> None:
    if not sys.stdin.isatty():
        raise FailedPreconditionError(
            f"context {context.name} was not removed: nobody is here to confirm it",
            remedy="Add --yes.",
        )
    print(
        f"Delete {context.directory} with the owner key in it? Type yes: ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    if sys.stdin.readline().strip() != "yes":
        raise FailedPreconditionError(
            f"context {context.name} was not removed", remedy="Type yes in full, or add --yes."
        )


def _document(context: Context) -> dict[str, Any]:
    return {
        "name": context.name,
        "directory": str(context.directory),
        "endpoints": list(context.endpoints),
        "proxy": context.proxy,
        "cluster": context.cluster_domain or None,
        "is_owner": context.is_owner,
    }


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, cast("list[object]", value))) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if value else "none"
