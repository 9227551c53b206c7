# SPDX-License-Identifier: Apache-2.0
"""`metalctl machine lock`, `reserve` and `reinstall`."""

from typing import Final

import click

from metropolis.ctl.metal.bulk import ask
from metropolis.ctl.metal.cells import text
from metropolis.ctl.metal.client import quoted
from metropolis.ctl.metal.completions import complete_ids
from metropolis.ctl.metal.options import command, settings_of
from metropolis.ctl.metal.output import emit_one
from metropolis.ctl.metal.session import opened
from metropolis.ctl.metal.tables import machines


def _keeping(name: str, state: str, effect: str) -> click.Command:
    @command(name, help=f"{effect} With --remove this ends.")
    @click.argument("id", shell_complete=complete_ids("machine"))
    @click.option("--description", metavar="TEXT", help="Why; people who are refused read it.")
    @click.option("--remove", is_flag=True, help="Let everybody have it again.")
    @click.pass_context
    def keep(ctx: click.Context, id: str, *, description: str | None, remove: bool) -> None:  # noqa: A002  # the word of the interface
        settings = settings_of(ctx)
        body = {"value": "" if remove else state, "description": description or ""}
        with opened(settings) as client:
            found = client.call("POST", f"/v1/machine/{quoted(id)}/state", body)
        emit_one(settings, found, machines.machines)

    return keep


machine_lock: Final = _keeping(
    "lock", "LOCKED", "Keep a machine as it is: it is neither allocated nor freed."
)
machine_reserve: Final = _keeping(
    "reserve", "RESERVED", "Keep a machine from being chosen; who names it gets it."
)


@command("reinstall")
@click.argument("id", shell_complete=complete_ids("machine"))
@click.option(
    "--image",
    metavar="IMAGE",
    shell_complete=complete_ids("image"),
    help="Image to install; default: the one it has.",
)
@click.option("--description", metavar="TEXT", help="Description of the machine from then on.")
@click.pass_context
def machine_reinstall(
    ctx: click.Context,
    id: str,  # noqa: A002  # the word of the interface
    *,
    image: str | None,
    description: str | None,  # the word of the interface
) -> None:
    """Install an image anew on an allocated machine; what its layout says is wiped."""
    settings = settings_of(ctx)
    with opened(settings) as client:
        if image is None:
            image = text(client.call("GET", f"/v1/machine/{quoted(id)}"), "allocation.image.id")
        ask(settings, f"Install {image} on machine {id}, which loses what is on its disks")
        body = {"id": id, "imageid": image}
        if description:
            body["description"] = description
        found = client.call("POST", f"/v1/machine/{quoted(id)}/reinstall", body)
    emit_one(settings, found, machines.machines)
