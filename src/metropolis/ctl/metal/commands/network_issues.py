# SPDX-License-Identifier: Apache-2.0
"""`metalctl network ip issues`."""

from collections.abc import Iterator, Sequence

import click

from metropolis.ctl.metal.cells import Json, text
from metropolis.ctl.metal.entities.networks import MACHINE_TAG
from metropolis.ctl.metal.options import command, settings_of
from metropolis.ctl.metal.output import emit_list
from metropolis.ctl.metal.session import opened
from metropolis.ctl.metal.tables import networks
from metropolis.ctl.metal.tables.machines import last_event


@command("issues")
@click.pass_context
def ip_issues(ctx: click.Context) -> None:
    """List addresses that nobody seems to need: ephemeral ones that were left behind."""
    settings = settings_of(ctx)
    with opened(settings) as client:
        addresses = client.call("GET", "/v1/ip")
        machines = client.call("GET", "/v1/machine")
    emit_list(settings, list(suspects(addresses, machines)), networks.address_issues)


def suspects(addresses: Sequence[Json], machines: Sequence[Json]) -> Iterator[Json]:
    """Yield addresses with their `issue`, those that are static left out."""
    by_id = {text(machine, "id"): machine for machine in machines}
    for address in addresses:
        if text(address, "type") != "static" and (issue := _issue(address, by_id)):
            yield {**address, "issue": issue}


def _issue(address: Json, machines: dict[str, Json]) -> str:
    tags: list[str] = address.get("tags") or []
    if not tags and text(address, "description") == "autoassigned":
        return "autoassigned, but without tags"
    if not tags and text(address, "name").startswith("metallb-"):
        return "of metallb, but without tags"
    for tag in tags:
        name, _, key = tag.partition("=")
        if name != MACHINE_TAG:
            continue
        machine = machines.get(key)
        if machine is None or not _is_at_work(machine):
            return "bound to unallocated machine"
        if text(machine, "allocation.name") != text(address, "name"):
            return "hostname mismatch"
    return ""


def _is_at_work(machine: Json) -> bool:
    return (
        machine.get("allocation") is not None
        and text(machine, "liveliness") == "Alive"
        and last_event(machine) == "Phoned Home"
    )
