# SPDX-License-Identifier: Apache-2.0
"""`metalctl machine ipmi`."""

from typing import Any, Final

import click

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.ctl.metal.cells import Json, text
from metropolis.ctl.metal.client import quoted
from metropolis.ctl.metal.completions import complete_ids
from metropolis.ctl.metal.entities import entity_of
from metropolis.ctl.metal.entities.machines import SEARCH_FLAGS, THRESHOLD
from metropolis.ctl.metal.flags import body_of, parse_duration
from metropolis.ctl.metal.options import MetalctlCommand, command, settings_of
from metropolis.ctl.metal.output import Tabulate, emit_list, emit_one
from metropolis.ctl.metal.programs import become, check_host
from metropolis.ctl.metal.session import opened
from metropolis.ctl.metal.sorting import ordered
from metropolis.ctl.metal.tables import machines


def _lister(name: str, tabulate: Tabulate, summary: str, *, takes_id: bool) -> click.Command:
    def act(**given: Any) -> None:  # noqa: ANN401  # of the flags
        settings = settings_of(click.get_current_context())
        if machine := given.get("machine"):
            with opened(settings) as client:
                emit_one(settings, client.call("GET", f"/v1/machine/{quoted(machine)}/ipmi"))
            return
        with opened(settings) as client:
            found = client.call("POST", "/v1/machine/ipmi/find", body_of(SEARCH_FLAGS, given))
        emit_list(
            settings,
            ordered(found or [], entity_of("machine"), given["sort_by"]),
            tabulate,
            error_threshold_s=parse_duration(given[THRESHOLD.parameter]),
        )

    argument = click.Argument(["machine"], required=False, shell_complete=complete_ids("machine"))
    return MetalctlCommand(
        name,
        callback=act,
        help=summary,
        params=[
            *([argument] if takes_id else []),
            *(flag.option() for flag in SEARCH_FLAGS),
            click.Option(["--sort-by"], multiple=True, metavar="COLUMN,…", help="As of `list`."),
        ],
    )


machine_ipmi: Final = _lister(
    "list", machines.ipmi, "List machines as their BMCs report them, or show one.", takes_id=True
)
chassis_list: Final = _lister(
    "chassis-list", machines.chassis, "List machines by the chassis they are in.", takes_id=False
)


@command("events")
@click.argument("id", shell_complete=complete_ids("machine"))
@click.option("--ipmiuser", metavar="NAME", help="User of the BMC; default: as it is known.")
@click.option(
    "--ipmipassword",
    metavar="PASSWORD",
    help="Password of the BMC; others can read command lines, IPMI_PASSWORD they cannot.",
)
@click.option("--last", metavar="NUMBER", default="10", show_default=True, help="How many.")
@click.pass_context
def ipmi_events(
    ctx: click.Context,
    id: str,  # noqa: A002  # the word of the interface
    ipmiuser: str | None,
    ipmipassword: str | None,
    last: str,  # the word of the interface
) -> None:
    """Show the event log of a machine's BMC, with ipmitool from here."""
    if not last.isdigit():
        raise InvalidArgumentError(f"{last[:64]!r} is no number", remedy="Give --last 10.")
    with opened(settings_of(ctx)) as client:
        found = client.call("GET", f"/v1/machine/{quoted(id)}/ipmi")
    words, environment = ipmitool(found, ipmiuser, ipmipassword)
    become([*words, "sel", "list", "last", last], environment=environment)


def ipmitool(
    machine: Json, user: str | None, password: str | None
) -> tuple[list[str], dict[str, str]]:
    """Return the beginning of an ipmitool command for a machine, and its secret.

    Raises:
        FailedPreconditionError: nobody ever said where its BMC is.
    """
    host, _, udp_port = text(machine, "ipmi.address").rpartition(":")
    if not host:
        raise FailedPreconditionError(
            f"nobody reported where the BMC of machine {text(machine, 'id')} is",
            remedy="Let the BMC agent of its partition run, then try again.",
        )
    interface = text(machine, "ipmi.interface") or "lanplus"
    words = ["ipmitool", "-I", check_host(interface), "-H", check_host(host.strip("[]"))]
    words += ["-p", udp_port, "-U", user or text(machine, "ipmi.user")]
    secret = password or text(machine, "ipmi.password")
    return ([*words, "-E"], {"IPMI_PASSWORD": secret}) if secret else ([*words, "-E"], {})
