# SPDX-License-Identifier: Apache-2.0
"""`metalctl switch detail`, `connected-machines`, `replace`, `migrate` and `delete`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import click

from metropolis.ctl.metal.bulk import ask
from metropolis.ctl.metal.cells import Json, entries, text
from metropolis.ctl.metal.client import Client, quoted
from metropolis.ctl.metal.completions import complete_ids
from metropolis.ctl.metal.entities import entity_of
from metropolis.ctl.metal.entities.networks import SWITCH_FLAGS
from metropolis.ctl.metal.entity import Entity
from metropolis.ctl.metal.entity_commands import delete_command, listed
from metropolis.ctl.metal.flags import Flag, body_of, text_flag
from metropolis.ctl.metal.options import MetalctlCommand, command, settings_of
from metropolis.ctl.metal.output import emit_list, emit_one, say
from metropolis.ctl.metal.plan import plan_update
from metropolis.ctl.metal.session import opened
from metropolis.ctl.metal.sorting import ordered
from metropolis.ctl.metal.tables import networks

_MACHINE_FLAGS: Final = (
    text_flag("machine-id", "Of this machine.", "id", completes="machine"),
    text_flag("size", "Of machines of this size.", "sizeid", completes="size"),
)


def _detail(**given: Any) -> None:  # noqa: ANN401  # of the flags
    settings = settings_of(click.get_current_context())
    entity = entity_of("switch")
    with opened(settings) as client:
        found = ordered(listed(client, entity, given), entity, ())
    emit_list(settings, found, networks.switch_ports)


def _connected(**given: Any) -> None:  # noqa: ANN401  # of the flags
    settings = settings_of(click.get_current_context())
    entity = entity_of("switch")
    with opened(settings) as client:
        switches = ordered(listed(client, entity, given), entity, ())
        search = body_of(_MACHINE_FLAGS, given)
        machines: list[Json] = client.call("POST", "/v1/machine/ipmi/find", search) or []
    known = {text(machine, "id"): machine for machine in machines}
    items = [_with_machines(switch, known) for switch in switches]
    if search:
        items = [each for each in items if each["connections"]]
    emit_list(settings, items, networks.connected_machines)


def _with_machines(switch: Json, known: Mapping[str, Json]) -> Json:
    connections = [
        {**each, "machine": known[text(each, "machine_id")]}
        for each in entries(switch, "connections")
        if text(each, "machine_id") in known
    ]
    return {**switch, "connections": connections}


def _listing(
    name: str,
    act: Callable[..., None],
    flags: tuple[Flag, ...],
    summary: str,  # any callback
) -> click.Command:
    return MetalctlCommand(
        name, callback=act, help=summary, params=[flag.option() for flag in flags]
    )


switch_detail: Final = _listing(
    "detail", _detail, SWITCH_FLAGS, "List the ports machines are at, with what is filtered there."
)
connected_machines: Final = _listing(
    "connected-machines",
    _connected,
    (*SWITCH_FLAGS, *_MACHINE_FLAGS),
    "List switches with the machines that are at them.",
)


@command("replace")
@click.argument("id", shell_complete=complete_ids("switch"))
@click.pass_context
def switch_replace(ctx: click.Context, id: str) -> None:  # noqa: A002  # the word of the interface
    """Prepare a switch for its replacement: a new one of the same id takes its place.

    When the new one registers, it takes over ports and connections from the other switch of the
    rack.
    """
    settings = settings_of(ctx)
    entity = entity_of("switch")
    with opened(settings) as client:
        step = plan_update(client, entity, {"id": id, "mode": "replace"})
        ask(settings, f"Let switch {id} be replaced")
        found = client.call("POST", entity.path, step.body)
    emit_one(settings, found, networks.switches)


@command("migrate")
@click.argument("old", metavar="OLD", shell_complete=complete_ids("switch"))
@click.argument("new", metavar="NEW", shell_complete=complete_ids("switch"))
@click.pass_context
def switch_migrate(ctx: click.Context, old: str, new: str) -> None:
    """Move what is at switch OLD to switch NEW of the same rack."""
    settings = settings_of(ctx)
    with opened(settings) as client:
        ask(settings, f"Move everything from switch {old} to {new}")
        body = {"old_switch_id": old, "new_switch_id": new}
        found = client.call("POST", "/v1/switch/migrate", body)
    say(f"Switch {old} is empty now; delete it when it is gone.")
    emit_one(settings, found, networks.switches)


def _forced(client: Client, key: str) -> Any:  # noqa: ANN401  # JSON
    return client.call("DELETE", f"/v1/switch/{quoted(key)}", query={"force": "true"})


def _adapt(_ctx: click.Context, given: Mapping[str, Any]) -> Entity:
    entity = entity_of("switch")
    return replace(entity, delete=_forced) if given["force"] else entity


switch_delete: Final = delete_command(
    entity_of("switch"),
    extra=[click.Option(["--force"], is_flag=True, help="Although machines are connected to it.")],
    adapt=_adapt,
)
