# SPDX-License-Identifier: Apache-2.0
"""`metalctl switch port`, `ssh` and `console`."""

import shlex
import sys

import click

from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    MetropolisError,
    NotFoundError,
)
from metropolis.ctl.metal.bulk import confirm
from metropolis.ctl.metal.cells import Json, entries, text
from metropolis.ctl.metal.client import quoted
from metropolis.ctl.metal.completions import complete_ids
from metropolis.ctl.metal.options import command, settings_of
from metropolis.ctl.metal.output import emit_one, say, write
from metropolis.ctl.metal.programs import become, check_host
from metropolis.ctl.metal.session import opened
from metropolis.ctl.suggestions import did_you_mean

_ID = click.argument("id", metavar="SWITCH", shell_complete=complete_ids("switch"))
_WORD = click.argument("word", metavar="[PORT]", required=False)
_PORT = click.option("--port", metavar="PORT", help="Name of the port, such as Ethernet0.")


@command("describe")
@_ID
@_WORD
@_PORT
@click.pass_context
def port_describe(ctx: click.Context, id: str, word: str | None, port: str | None) -> None:  # noqa: A002  # the word of the interface
    """Show a port of a switch, and which machine is at it."""
    settings = settings_of(ctx)
    with opened(settings) as client:
        switch = client.call("GET", f"/v1/switch/{quoted(id)}")
    emit_one(settings, _port_of(switch, _named(word or port)))


@command("up")
@_ID
@_WORD
@_PORT
@click.pass_context
def port_up(ctx: click.Context, id: str, word: str | None, port: str | None) -> None:  # noqa: A002  # the word of the interface
    """Switch a port on; its switch does it within seconds."""
    _toggle(ctx, id, _named(word or port), "UP")


@command("down")
@_ID
@_WORD
@_PORT
@click.pass_context
def port_down(ctx: click.Context, id: str, word: str | None, port: str | None) -> None:  # noqa: A002  # the word of the interface
    """Switch a port off, so that its machine is cut off; its switch does it within seconds."""
    _toggle(ctx, id, _named(word or port), "DOWN")


def _toggle(ctx: click.Context, key: str, port: str, status: str) -> None:
    settings = settings_of(ctx)
    body = {"nic": port, "status": status}
    with opened(settings) as client:
        switch = client.call("POST", f"/v1/switch/{quoted(key)}/port", body)
    emit_one(settings, _port_of(switch, port))


def _named(port: str | None) -> str:
    if not port:
        raise InvalidArgumentError("nothing says which port", remedy="Add --port NAME.")
    return port


def _port_of(switch: Json, port: str) -> Json:
    """Return a port with its machine.

    Raises:
        NotFoundError: there is none of that name; the remedy names the nearest.
    """
    nics = {text(nic, "name").lower(): nic for nic in entries(switch, "nics")}
    found = nics.get(port.lower())
    if found is None:
        names = [text(nic, "name") for nic in nics.values()]
        raise NotFoundError(
            f"switch {text(switch, 'id')} has no port {port[:64]!r}",
            remedy=did_you_mean(port, names) or f"Its ports: {', '.join(names)}.",
        )
    machines = {
        text(each, "nic.name"): text(each, "machine_id") for each in entries(switch, "connections")
    }
    return {**found, "machine_id": machines.get(text(found, "name"), "")}


@command("ssh")
@_ID
@click.pass_context
def switch_ssh(ctx: click.Context, id: str) -> None:  # noqa: A002  # the word of the interface
    """Log in to a switch by SSH, at its management address."""
    with opened(settings_of(ctx)) as client:
        switch = client.call("GET", f"/v1/switch/{quoted(id)}")
    host, user = text(switch, "management_ip"), text(switch, "management_user")
    if not host or not user:
        raise FailedPreconditionError(
            f"switch {id} never said its management address and user",
            remedy="Let its agent register it with both.",
        )
    say(f"ssh {user}@{host}")
    become(["ssh", f"{check_host(user)}@{check_host(host)}"])


@command("console")
@_ID
@click.pass_context
def switch_console(ctx: click.Context, id: str) -> None:  # noqa: A002  # the word of the interface
    """Run the command that opens a switch's console; without a terminal, print it."""
    settings = settings_of(ctx)
    with opened(settings) as client:
        switch = client.call("GET", f"/v1/switch/{quoted(id)}")
    line = text(switch, "console_command")
    if not line:
        raise _no_console(id)
    if not sys.stdin.isatty():
        write(line + "\n")
        return
    words = shlex.split(line)
    if not words:
        raise _no_console(id)
    if not settings.is_sure:  # it comes from the control plane and runs as you
        confirm(f"Run `{line}` here")
    become(words)


def _no_console(key: str) -> MetropolisError:
    return FailedPreconditionError(
        f"switch {key} has no console command",
        remedy=f"Set console_command with `metalctl switch edit {key}`.",
    )
