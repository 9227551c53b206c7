# SPDX-License-Identifier: Apache-2.0
"""`metalctl network allocate` and `metalctl network free`."""

from typing import Any, Final

import click

from metropolis.ctl.metal.bulk import ask
from metropolis.ctl.metal.client import quoted
from metropolis.ctl.metal.completions import complete_ids
from metropolis.ctl.metal.entities.networks import FAMILIES
from metropolis.ctl.metal.flags import (
    body_of,
    number_flag,
    pairs_flag,
    switch_flag,
    text_flag,
)
from metropolis.ctl.metal.options import MetalctlCommand, command, settings_of
from metropolis.ctl.metal.output import emit_one
from metropolis.ctl.metal.session import opened
from metropolis.ctl.metal.tables import networks

ANYWHERE: Final = {"IPv4": "0.0.0.0/0", "IPv6": "::/0"}
_FLAGS: Final = (
    text_flag(
        "addressfamily", "Only IPv4 or only IPv6; default: both.", "addressfamily", choices=FAMILIES
    ),
    text_flag("description", "Description.", "description"),
    switch_flag("dmz", "A network that leads everywhere: shared, with NAT."),
    number_flag("ipv4-prefix-length", "Bits of its IPv4 prefix.", "length.IPv4"),
    number_flag("ipv6-prefix-length", "Bits of its IPv6 prefix.", "length.IPv6"),
    pairs_flag("labels", "Labels.", "labels"),
    text_flag("name", "Name.", "name"),
    text_flag("partition", "Where.", "partitionid", completes="partition", is_required=True),
    text_flag("project", "For whom.", "projectid", completes="project", is_required=True),
    switch_flag("shared", "Let other projects use it.", "shared"),
)


def _allocate(**given: Any) -> None:  # noqa: ANN401  # of the flags
    settings = settings_of(click.get_current_context())
    body = body_of(_FLAGS, given)
    if given["dmz_value"]:
        family = "IPv6" if str(body.get("addressfamily", "")).lower() == "ipv6" else "IPv4"
        body |= {"shared": True, "nat": True, "destinationprefixes": [ANYWHERE[family]]}
    with opened(settings) as client:
        found = client.call("POST", "/v1/network/allocate", body)
    emit_one(settings, found, networks.networks)


network_allocate: Final = MetalctlCommand(
    "allocate",
    callback=_allocate,
    help="Cut a private network for a project from the super network of a partition.",
    params=[flag.option() for flag in _FLAGS],
)


@command("free")
@click.argument("id", shell_complete=complete_ids("network"))
@click.pass_context
def network_free(ctx: click.Context, id: str) -> None:  # noqa: A002  # the word of the interface
    """Give a private network back; it must have no addresses left."""
    settings = settings_of(ctx)
    with opened(settings) as client:
        client.call("GET", f"/v1/network/{quoted(id)}")
        ask(settings, f"Free network {id}")
        found = client.call("DELETE", f"/v1/network/free/{quoted(id)}")
    emit_one(settings, found, networks.networks)
