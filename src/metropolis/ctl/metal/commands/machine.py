# SPDX-License-Identifier: Apache-2.0
"""`metalctl machine explain` and `metalctl machine logs`."""

import click

from metropolis.ctl.metal.cells import at, entries, parsed_time, text
from metropolis.ctl.metal.client import quoted
from metropolis.ctl.metal.completions import complete_ids
from metropolis.ctl.metal.entities.machines import THRESHOLD
from metropolis.ctl.metal.flags import parse_duration
from metropolis.ctl.metal.options import command, settings_of
from metropolis.ctl.metal.output import emit_list, emit_one, say, view_of, write
from metropolis.ctl.metal.session import opened
from metropolis.ctl.metal.tables import machines
from metropolis.ctl.text_table import visible


@command("explain")
@click.argument("id", shell_complete=complete_ids("machine"))
@click.pass_context
def machine_explain(ctx: click.Context, id: str) -> None:  # noqa: A002  # the word of the interface
    """Say what a machine is up to: allocatable, in use, or what is in its way and what to do."""
    settings = settings_of(ctx)
    with opened(settings) as client:
        found = client.call("GET", f"/v1/machine/{quoted(id)}/explain")
    if settings.output in ("table", "wide"):
        write(f"Machine {visible(text(found, 'machineid'))}: {visible(text(found, 'verdict'))}\n")
        for each in entries(found, "obstacles"):
            write(f"  {visible(text(each, 'reason'))}\n    {visible(text(each, 'remedy'))}\n")
    else:
        emit_one(settings, found, machines.obstacles)


@command("logs", params=[THRESHOLD.option()])
@click.argument("id", shell_complete=complete_ids("machine"))
@click.pass_context
def machine_logs(ctx: click.Context, id: str, last_event_error_threshold_value: str) -> None:  # noqa: A002  # the word of the interface
    """Show the provisioning events of a machine, newest first."""
    settings = settings_of(ctx)
    threshold_s = parse_duration(last_event_error_threshold_value)
    with opened(settings) as client:
        found = client.call("GET", f"/v1/machine/{quoted(id)}")
    emit_list(settings, entries(found, "events.log"), machines.events)
    error = at(found, "events.last_error_event")
    time = parsed_time(at(error, "time"))
    if time is not None and (view_of(settings).now - time).total_seconds() <= threshold_s:
        say(f"Recent error: {text(error, 'event')}: {text(error, 'message')} ({time:%c})")
