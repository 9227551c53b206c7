# SPDX-License-Identifier: Apache-2.0
"""`metalctl machine power` and `metalctl machine identify`."""

from typing import Final

import click

from metropolis.ctl.metal.client import quoted
from metropolis.ctl.metal.completions import complete_ids
from metropolis.ctl.metal.options import command, settings_of
from metropolis.ctl.metal.output import emit_one, say
from metropolis.ctl.metal.session import opened
from metropolis.ctl.metal.tables import machines

_EFFECTS: Final = {
    "on": "Switch a machine on.",
    "off": "Switch a machine off, without asking its operating system.",
    "reset": "Reset a machine, without asking its operating system.",
    "cycle": "Switch a machine off and on, without asking its operating system.",
    "bios": "Have a machine boot into its BIOS the next time.",
    "disk": "Have a machine boot from disk the next time.",
    "pxe": "Have a machine boot from the network the next time.",
}


def make(verb: str) -> click.Command:
    """Return a command by its verb."""

    @command(verb, help=f"{_EFFECTS[verb]} The BMC agent of its partition does it.")
    @click.argument("id", shell_complete=complete_ids("machine"))
    @click.pass_context
    def power(ctx: click.Context, id: str) -> None:  # noqa: A002  # the word of the interface
        settings = settings_of(ctx)
        with opened(settings) as client:
            found = client.call("POST", f"/v1/machine/{quoted(id)}/power/{verb}", {})
        say(f"Machine {id} was told: power {verb}.")
        emit_one(settings, found, machines.machines)

    return power


def _identify(verb: str) -> click.Command:
    @command(verb, help=f"Switch the light of a machine {verb}, by which it is found in its rack.")
    @click.argument("id", shell_complete=complete_ids("machine"))
    @click.option("--description", metavar="TEXT", help="Why.")
    @click.pass_context
    def identify(ctx: click.Context, id: str, description: str | None) -> None:  # noqa: A002  # the word of the interface
        settings = settings_of(ctx)
        query = {"description": description} if description else None
        path = f"/v1/machine/{quoted(id)}/power/chassis-identify-led-{verb}"
        with opened(settings) as client:
            found = client.call("POST", path, {}, query=query)
        say(f"Machine {id} was told: light {verb}.")
        emit_one(settings, found, machines.machines)

    return identify


identify_on: Final = _identify("on")
identify_off: Final = _identify("off")
