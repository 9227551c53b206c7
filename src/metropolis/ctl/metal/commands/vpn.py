# SPDX-License-Identifier: Apache-2.0
"""`metalctl vpn key`."""

import click

from metropolis.ctl.metal.completions import complete_ids
from metropolis.ctl.metal.options import command, settings_of
from metropolis.ctl.metal.output import emit_one
from metropolis.ctl.metal.session import opened
from metropolis.ctl.metal.tables import books


@command("key")
@click.option(
    "--project",
    required=True,
    metavar="PROJECT",
    shell_complete=complete_ids("project"),
    help="Whose firewalls are to be reached.",
)
@click.option("--ephemeral", is_flag=True, help="Who joins with it is forgotten when gone.")
@click.option("--reason", metavar="TEXT", default="", help="Why; it is noted down.")
@click.pass_context
def vpn_key(ctx: click.Context, *, project: str, ephemeral: bool, reason: str) -> None:
    """Make a key to join the VPN that the firewalls of a project are in."""
    settings = settings_of(ctx)
    body = {"pid": project, "ephemeral": ephemeral, "reason": reason}
    with opened(settings) as client:
        found = client.call("POST", "/v1/vpn/authkey", body)
    emit_one(settings, found, books.vpn_key)
