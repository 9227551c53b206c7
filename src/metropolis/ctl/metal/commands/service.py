# SPDX-License-Identifier: Apache-2.0
"""`metalctl version`, `health`, `whoami` and `update`."""

import re
from collections.abc import Sequence
from typing import Final

import click

from metropolis import __version__
from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError, MetropolisError
from metropolis.ctl.metal.cells import Json, Table, View, fields, text
from metropolis.ctl.metal.options import command, settings_of
from metropolis.ctl.metal.output import emit_list, emit_one, say
from metropolis.ctl.metal.session import opened
from metropolis.ctl.metal.tables import books

_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:[-+].*)?")
_HOW: Final = "Get the source of that version, and run `make setup` in it."


@command("version")
@click.pass_context
def version(ctx: click.Context) -> None:
    """Print the versions of this program and of the control plane, if it can be reached."""
    settings = settings_of(ctx)
    server: Json | None = None
    try:
        with opened(settings, is_anonymous=True) as client:
            server = client.call("GET", "/v1/version")
    except MetropolisError as error:
        say(f"The control plane did not say its version: {error}")
    emit_one(settings, {"client": __version__, "server": server}, _versions)


def _versions(items: Sequence[Json], _view: View) -> Table:
    found = items[0]
    server = found["server"]
    rows = [("metalctl", text(found, "client"), "")]
    if server:
        rows.append((text(server, "name"), text(server, "version"), text(server, "revision")))
    return Table(headers=("Program", "Version", "Revision"), rows=rows)


@command("health")
@click.pass_context
def health(ctx: click.Context) -> int:
    """Say how the control plane and its parts do; exit status 1 if it is not healthy."""
    settings = settings_of(ctx)
    with opened(settings, is_anonymous=True) as client:
        found = client.call("GET", "/v1/health", accepts_failure=True)
    parts = [{"name": "metal-api", **found}]
    parts += [{"name": name, **each} for name, each in fields(found, "services").items()]
    if settings.output in ("table", "wide", "markdown"):
        emit_list(settings, parts, books.services)
    else:
        emit_one(settings, found)
    return 0 if found.get("status") == "healthy" else 1


@command("whoami")
@click.pass_context
def whoami(ctx: click.Context) -> None:
    """Say who you are to the API, and which groups you are in."""
    settings = settings_of(ctx)
    with opened(settings) as client:
        found = client.call("GET", "/v1/user/me")
    emit_one(settings, found, books.caller)


@command("check")
@click.pass_context
def update_check(ctx: click.Context) -> None:
    """Say whether this program is new enough for the API."""
    settings = settings_of(ctx)
    with opened(settings, is_anonymous=True) as client:
        server = client.call("GET", "/v1/version")
    found = {
        "client": __version__,
        "min_client_version": text(server, "min_client_version"),
        "release_version": text(server, "release_version"),
    }
    emit_one(settings, found, _fitting)
    check_fit(server)


def check_fit(server: Json) -> None:
    """Refuse to go on with a client that is too old; warn when it is merely another version.

    Raises:
        FailedPreconditionError: the API wants a newer client.
    """
    wanted, release = text(server, "min_client_version"), text(server, "release_version")
    if _number(__version__) < _number(wanted):
        raise FailedPreconditionError(
            f"this metalctl is {__version__}, the API wants {wanted} or newer", remedy=_HOW
        )
    if release and _number(release) != _number(__version__):
        say(f"warning: this metalctl is {__version__}, the control plane is {release}")


@command("do")
@click.option("--version", "wanted", metavar="VERSION", help="Version to install.")
def update_do(wanted: str | None) -> None:
    """Say how to get a fitting version: this program comes with the control plane's package."""
    raise FailedPreconditionError(
        f"metalctl does not replace itself{f' by {wanted}' if wanted else ''}: "
        "it is a part of the package metropolis",
        remedy=_HOW,
    )


def _fitting(items: Sequence[Json], _view: View) -> Table:
    found = items[0]
    is_fit = _number(text(found, "client")) >= _number(text(found, "min_client_version"))
    return Table(
        headers=("Client", "Oldest Allowed", "Control Plane", "Fits"),
        rows=[
            (
                text(found, "client"),
                text(found, "min_client_version"),
                text(found, "release_version"),
                "yes" if is_fit else "no",
            )
        ],
    )


def _number(version_text: str) -> tuple[int, ...]:
    match = _VERSION.fullmatch(version_text)
    if match is None:
        raise InvalidArgumentError(
            f"{version_text[:64]!r} is no version", remedy="Look at `metalctl version`."
        )
    return tuple(map(int, match.groups()))
