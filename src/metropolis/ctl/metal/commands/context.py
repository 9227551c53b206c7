# SPDX-License-Identifier: Apache-2.0
"""`metalctl context`."""

from collections.abc import Sequence
from dataclasses import replace

import click

from metropolis.base.errors import FailedPreconditionError
from metropolis.ctl.metal.cells import Json, Table, View, text
from metropolis.ctl.metal.completions import complete_contexts
from metropolis.ctl.metal.configuration import Contexts, read_contexts, shown, write_contexts
from metropolis.ctl.metal.options import command, settings_of
from metropolis.ctl.metal.output import emit_list, say, write


@command("context")
@click.argument("name", required=False, shell_complete=complete_contexts)
@click.pass_context
def context(ctx: click.Context, name: str | None) -> None:
    r"""List contexts, or make NAME the current one.

    `-` is the one before, `short` prints the name of the current one. Contexts are written by
    hand into ~/.metalctl/config.yaml:

    \b
        current: prod
        contexts:
          prod:
            url: https://api.example.org/metal
            issuer_url: https://dex.example.org
            client_id: metal_client
          lab:
            url: http://127.0.0.1:8080
            hmac: the shared key
            hmac_auth_type: Metal-Admin
    """
    settings = settings_of(ctx)
    found = read_contexts(settings)
    if name is None:
        items = [
            {"name": each, "current": each == found.current, **shown(fields)}
            for each, fields in found.contexts.items()
        ]
        if not items:
            say(f"There are no contexts in {found.path}.")
        emit_list(settings, items, _tabulate)
    elif name == "short":
        write(f"{found.current}\n")
    else:
        _choose(found, found.previous if name == "-" else name)


def _choose(found: Contexts, name: str) -> None:
    if not name:
        raise FailedPreconditionError(
            "there is no context before this one", remedy="Name one: `metalctl context NAME`."
        )
    found.get(name)
    previous = found.current if found.current != name else found.previous
    write_contexts(replace(found, current=name, previous=previous))
    say(f"The current context is {name}.")


def _tabulate(items: Sequence[Json], _view: View) -> Table:
    return Table(
        headers=("Name", "Current", "URL", "Issuer"),
        rows=[
            (
                text(each, "name"),
                "yes" if each["current"] else "",
                text(each, "url"),
                text(each, "issuer_url"),
            )
            for each in items
        ],
    )
