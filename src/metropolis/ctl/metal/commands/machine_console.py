# SPDX-License-Identifier: Apache-2.0
"""`metalctl machine console`, `consolepassword` and `metalctl firewall ssh`."""

import socket
import urllib.parse
from pathlib import Path
from typing import Final

import click

from metropolis.base.errors import FailedPreconditionError, UnimplementedError
from metropolis.ctl.metal.cells import Json, entries, text
from metropolis.ctl.metal.client import Access, quoted
from metropolis.ctl.metal.commands.machine_ipmi import ipmitool
from metropolis.ctl.metal.completions import complete_ids
from metropolis.ctl.metal.options import command, settings_of
from metropolis.ctl.metal.output import emit_one, say, write
from metropolis.ctl.metal.programs import become, check_host
from metropolis.ctl.metal.session import access_of, opened

CONSOLE_TCP_PORT: Final = 5222
TOKEN_VARIABLE: Final = "LC_METAL_STACK_OIDC_TOKEN"  # noqa: S105  # its name
_DIAL_TIMEOUT_S: Final = 3.0


@command("console")
@click.argument("id", shell_complete=complete_ids("machine"))
@click.option("--sshidentity", "-p", metavar="FILE", help="Private key for SSH.")
@click.option("--ipmi", is_flag=True, help="With ipmitool from here, past the control plane.")
@click.option("--admin", is_flag=True, help="As an administrator, to any machine.")
@click.option("--ipmiuser", metavar="NAME", help="User of the BMC, for --ipmi.")
@click.option(
    "--ipmipassword",
    metavar="PASSWORD",
    help="Password of the BMC; others can read command lines, IPMI_PASSWORD they cannot.",
)
@click.pass_context
def machine_console(
    ctx: click.Context,
    id: str,  # noqa: A002  # the word of the interface
    *,
    sshidentity: str | None,
    ipmi: bool,
    admin: bool,
    ipmiuser: str | None,
    ipmipassword: str | None,
) -> None:
    """Open the serial console of a machine.

    It goes by SSH to port 5222 of the API's host, where a console service must listen; this
    release has none of its own. With --ipmi ipmitool talks to the BMC from here.
    """
    settings = settings_of(ctx)
    with opened(settings) as client:
        if ipmi:
            found = client.call("GET", f"/v1/machine/{quoted(id)}/ipmi")
            words, environment = ipmitool(found, ipmiuser, ipmipassword)
            say("Leave the console with ~. at the beginning of a line.")
            become([*words, "sol", "activate"], environment=environment)
        client.call("GET", f"/v1/machine/{quoted(id)}")  # a wrong id is better said by us
    access = access_of(settings)
    host = check_host(urllib.parse.urlsplit(access.url).hostname or "")
    _check_service(host)
    words = ["ssh", "-p", str(CONSOLE_TCP_PORT)]
    words += ["-i", sshidentity] if sshidentity else []
    words += ["-o", f"SendEnv={TOKEN_VARIABLE}"] if admin or access.token else []
    become([*words, f"{id}@{host}"], environment=_secret(access))


def _check_service(host: str) -> None:
    try:
        socket.create_connection((host, CONSOLE_TCP_PORT), timeout=_DIAL_TIMEOUT_S).close()
    except OSError as cause:
        raise FailedPreconditionError(
            f"no console service listens on {host}:{CONSOLE_TCP_PORT}; "
            "this release has none of its own",
            remedy="Use --ipmi where the BMC can be reached from here, or run metal-console there.",
        ) from cause


def _secret(access: Access) -> dict[str, str]:
    return {TOKEN_VARIABLE: access.token} if access.token else {}


@command("consolepassword")
@click.argument("id", shell_complete=complete_ids("machine"))
@click.option("--reason", metavar="TEXT", help="Why you need it; it is noted down.")
@click.pass_context
def machine_consolepassword(ctx: click.Context, id: str, reason: str | None) -> None:  # noqa: A002  # the word of the interface
    """Show the password of a machine's console; who looks, and why, is noted down."""
    settings = settings_of(ctx)
    with opened(settings) as client:
        body = {"id": id, "reason": reason or ""}
        found = client.call("GET", "/v1/machine/consolepassword", body)
    if settings.output in ("table", "wide", "markdown"):
        write(f"{text(found, 'console_password')}\n")
    else:
        emit_one(settings, found)


@command("ssh")
@click.argument("id", metavar="FIREWALL", shell_complete=complete_ids("firewall"))
@click.option("--identity", "-i", metavar="FILE", help="Private key; default: ssh's own choice.")
@click.pass_context
def firewall_ssh(ctx: click.Context, id: str, identity: str | None) -> None:  # noqa: A002  # the word of the interface
    """Log in to a firewall by SSH, at an address that can be reached from outside."""
    settings = settings_of(ctx)
    with opened(settings) as client:
        found = client.call("GET", f"/v1/firewall/{quoted(id)}")
    addresses = _outside(found)
    if not addresses and text(found, "allocation.vpn.address"):
        raise UnimplementedError(
            f"firewall {id} can be reached by its VPN only, and this metalctl is no VPN client",
            remedy="Join the VPN (`metalctl vpn key`), then use ssh.",
        )
    if not addresses:
        raise FailedPreconditionError(
            f"firewall {id} has no address outside of private networks",
            remedy="Log in from a machine in one of its networks, or use `machine console`.",
        )
    words = ["ssh", *(["-i", str(Path(identity))] if identity else [])]
    say(f"ssh metal@{addresses[0]}")
    become([*words, f"metal@{check_host(addresses[0])}"])


def _outside(machine: Json) -> list[str]:
    return [
        str(address)
        for network in entries(machine, "allocation.networks")
        if not network.get("private") and not network.get("underlay")
        for address in network.get("ips", ())
    ]
