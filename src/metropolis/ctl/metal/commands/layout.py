# SPDX-License-Identifier: Apache-2.0
"""`metalctl filesystemlayout try` and `match`."""

import click

from metropolis.ctl.metal.commands.fit import size_and_image
from metropolis.ctl.metal.completions import complete_ids
from metropolis.ctl.metal.options import command, settings_of
from metropolis.ctl.metal.output import emit_one
from metropolis.ctl.metal.session import opened
from metropolis.ctl.metal.tables import inventory


@command("try")
@size_and_image
@click.pass_context
def layout_try(ctx: click.Context, size: str, image: str) -> None:
    """Show the layout that machines of a size get for an image."""
    settings = settings_of(ctx)
    with opened(settings) as client:
        body = {"size": size, "image": image}
        found = client.call("POST", "/v1/filesystemlayout/try", body)
    emit_one(settings, found, inventory.layouts)


@command("match")
@click.option(
    "--machine",
    required=True,
    metavar="MACHINE",
    shell_complete=complete_ids("machine"),
    help="Machine.",
)
@click.option(
    "--filesystemlayout",
    "layout",
    required=True,
    metavar="LAYOUT",
    shell_complete=complete_ids("filesystemlayout"),
    help="Layout.",
)
@click.pass_context
def layout_match(ctx: click.Context, machine: str, layout: str) -> None:
    """Say whether a machine has the disks that a layout needs."""
    settings = settings_of(ctx)
    with opened(settings) as client:
        body = {"machine": machine, "filesystemlayout": layout}
        found = client.call("POST", "/v1/filesystemlayout/matches", body)
    emit_one(settings, found, inventory.layouts)
