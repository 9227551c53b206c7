# SPDX-License-Identifier: Apache-2.0
"""`metalctl token create` and `metalctl token revoke`."""

from typing import Any, Final

import click

from metropolis.ctl.metal.cells import moment, text
from metropolis.ctl.metal.client import quoted
from metropolis.ctl.metal.completions import complete_ids
from metropolis.ctl.metal.entities import entity_of
from metropolis.ctl.metal.flags import body_of, parse_duration
from metropolis.ctl.metal.options import MetalctlCommand, command, settings_of
from metropolis.ctl.metal.output import emit_one, say, write
from metropolis.ctl.metal.session import opened
from metropolis.ctl.metal.tables import books


def _create(**given: Any) -> None:  # noqa: ANN401  # of the flags
    settings = settings_of(click.get_current_context())
    body = body_of(entity_of("token").create_flags, given)
    if given["expiration"]:
        body["expiration_s"] = int(parse_duration(given["expiration"]))
    with opened(settings) as client:
        found = client.call("PUT", "/v1/token", body)
    if settings.output in ("json", "yaml", "template"):
        emit_one(settings, found)
        return
    say(
        f"Token {text(found, 'id')} lasts until {moment(found.get('expires'))} UTC; "
        "nobody can show it again."
    )
    write(f"{text(found, 'token')}\n")


token_create: Final = MetalctlCommand(
    "create",
    callback=_create,
    help="Make a token with at most your rights, and print it: for METALCTL_API_TOKEN.",
    params=[
        *(flag.option() for flag in entity_of("token").create_flags),
        click.Option(["--expiration"], metavar="DURATION", help="How long it lasts (default 30d)."),
    ],
)


@command("revoke")
@click.argument("id", shell_complete=complete_ids("token"))
@click.pass_context
def token_revoke(ctx: click.Context, id: str) -> None:  # noqa: A002  # the word of the interface
    """Revoke a token and those that were made with it, at once."""
    settings = settings_of(ctx)
    with opened(settings) as client:
        found = client.call("DELETE", f"/v1/token/{quoted(id)}")
    say(f"Token {id} is revoked.")
    emit_one(settings, found, books.tokens)
