# SPDX-License-Identifier: Apache-2.0
"""`metalctl firmware` and `metalctl machine update-firmware`."""

from pathlib import Path

import click

from metropolis.ctl.metal.bulk import ask, require_sure
from metropolis.ctl.metal.cells import Json, fields
from metropolis.ctl.metal.client import quoted
from metropolis.ctl.metal.completions import complete_ids, complete_words
from metropolis.ctl.metal.options import command, settings_of
from metropolis.ctl.metal.output import emit_list, emit_one, say
from metropolis.ctl.metal.session import opened
from metropolis.ctl.metal.tables import inventory, machines

_KINDS = ("bios", "bmc")


@command("list")
@click.option("--kind", metavar="KIND", shell_complete=complete_words(_KINDS), help="bios or bmc.")
@click.option("--vendor", metavar="TEXT", help="Vendor of the board.")
@click.option("--board", metavar="TEXT", help="Board.")
@click.option(
    "--machineid", metavar="MACHINE", shell_complete=complete_ids("machine"), help="For a machine."
)
@click.pass_context
def firmware_list(
    ctx: click.Context,
    *,
    kind: str | None,
    vendor: str | None,
    board: str | None,
    machineid: str | None,
) -> None:
    """List the firmware that was uploaded."""
    settings = settings_of(ctx)
    given = {"kind": kind, "vendor": vendor, "board": board, "machine-id": machineid}
    query = {name: value for name, value in given.items() if value}
    with opened(settings) as client:
        found = client.call("GET", "/v1/firmware", query=query)
    if settings.output in ("json", "yaml", "template"):
        emit_one(settings, found)
    else:
        emit_list(settings, _flat(found), inventory.firmwares)


def _flat(found: Json) -> list[Json]:
    return [
        {"kind": kind, "vendor": vendor, "board": board, "revision": revision}
        for kind, vendors in sorted(fields(found, "revisions").items())
        for vendor, boards in sorted(fields(vendors, "VendorRevisions").items())
        for board, revisions in sorted(fields(boards, "BoardRevisions").items())
        for revision in revisions
    ]


def upload(kind: str) -> click.Command:
    """Return `metalctl firmware upload KIND`."""

    @command(kind, help="Upload firmware for machines of a board.")
    @click.argument("file", type=click.Path(path_type=Path))
    @click.option("--vendor", required=True, metavar="TEXT", help="Vendor of the board.")
    @click.option("--board", required=True, metavar="TEXT", help="Board.")
    @click.option("--revision", required=True, metavar="TEXT", help="Revision of the firmware.")
    @click.pass_context
    def act(ctx: click.Context, file: Path, *, vendor: str, board: str, revision: str) -> None:
        with opened(settings_of(ctx)) as client:
            client.upload(_path(kind, vendor, board, revision), file)
        say(f"Uploaded {kind} {revision} for {vendor} {board}.")

    return act


@command("delete")
@click.option(
    "--kind",
    required=True,
    metavar="KIND",
    shell_complete=complete_words(_KINDS),
    help="bios or bmc.",
)
@click.option("--vendor", required=True, metavar="TEXT", help="Vendor of the board.")
@click.option("--board", required=True, metavar="TEXT", help="Board.")
@click.option("--revision", required=True, metavar="TEXT", help="Revision of the firmware.")
@click.pass_context
def firmware_delete(
    ctx: click.Context, *, kind: str, vendor: str, board: str, revision: str
) -> None:
    """Delete firmware that was uploaded."""
    settings = settings_of(ctx)
    with opened(settings) as client:
        ask(settings, f"Delete {kind} {revision} of {vendor} {board}")
        client.call("DELETE", _path(kind, vendor, board, revision))
    say(f"Deleted {kind} {revision} of {vendor} {board}.")


def _path(*parts: str) -> str:
    return "/v1/firmware/" + "/".join(map(quoted, parts))


def update_firmware(kind: str) -> click.Command:
    """Return `metalctl machine update-firmware KIND`."""

    @command(kind, help="Update firmware of a machine, which may reboot meanwhile.")
    @click.argument("id", shell_complete=complete_ids("machine"))
    @click.option("--revision", required=True, metavar="TEXT", help="Revision; it was uploaded.")
    @click.option("--description", metavar="TEXT", default="", help="Why.")
    @click.pass_context
    def act(ctx: click.Context, id: str, *, revision: str, description: str) -> None:  # noqa: A002  # the word of the interface
        settings = settings_of(ctx)
        body = {"kind": kind, "revision": revision, "description": description}
        with opened(settings) as client:
            require_sure(settings, f"machine {id} may reboot when its {kind} is updated")
            found = client.call("POST", f"/v1/machine/update-firmware/{quoted(id)}", body)
        emit_one(settings, found, machines.machines)

    return act
