# SPDX-License-Identifier: Apache-2.0
"""`metalctl audit list` and `metalctl audit describe`."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

from metropolis.base.errors import InvalidArgumentError, NotFoundError
from metropolis.ctl.metal.cells import Json
from metropolis.ctl.metal.flags import Flag, body_of, number_flag, parse_duration, text_flag
from metropolis.ctl.metal.options import MetalctlCommand, command, settings_of
from metropolis.ctl.metal.output import emit_list, emit_one
from metropolis.ctl.metal.session import opened
from metropolis.ctl.metal.sorting import sorted_by
from metropolis.ctl.metal.tables import books
from metropolis.host.linux.clock import LinuxClock

_PHASES: Final = ("request", "response", "single", "error", "opened", "closed")
_FLAGS: Final = (
    text_flag("component", "Part of the control plane.", "component"),
    text_flag("detail", "HTTP method, or kind of RPC.", "detail"),
    text_flag("error", "Words of the error.", "error"),
    text_flag("forwarded-for", "Address before a proxy.", "forwarded_for"),
    Flag(name="from", to="from", default="24h", metavar="WHEN",
         help="Since when: 2h ago, or a time such as 2026-11-20T09:00:00Z (default 24h)."),
    number_flag("limit", "How many at most; the newest.", "limit"),
    text_flag("path", "Part of the path.", "path"),
    text_flag("phase", "request, response, single, error, opened or closed.", "phase",
              choices=_PHASES),
    text_flag("query", "Words of the body.", "body"),
    text_flag("remote-addr", "Address of the caller.", "remote_addr"),
    text_flag("request-id", "Id of the request.", "rqid"),
    number_flag("status-code", "Status of the answer.", "status_code"),
    text_flag("tenant", "Tenant of the caller.", "tenant"),
    text_flag("to", "Until when, as --from.", "to", metavar="WHEN"),
    text_flag("type", "http, grpc or event.", "type", choices=("http", "grpc", "event")),
    text_flag("user", "Who called.", "user"),
)  # fmt: skip


_KEYS: Final = {
    name: name
    for name in ("timestamp", "component", "path", "phase", "rqid", "status_code", "tenant", "user")
}


def _list(**given: Any) -> None:  # noqa: ANN401  # of the flags
    settings = settings_of(click.get_current_context())
    body = body_of(_FLAGS, given)
    for name in ("from", "to"):
        if name in body:
            body[name] = when(body[name], LinuxClock().wall())
    with opened(settings) as client:
        found: list[Json] = client.call("POST", "/v1/audit/find", body) or []
    emit_list(settings, sorted_by(found, _KEYS, given["sort_by"]), books.traces)


def when(given: str, now: datetime) -> str:
    """Understand a time, or how long ago one was; return RFC 3339.

    Raises:
        InvalidArgumentError: it is neither.
    """
    try:
        time = datetime.fromisoformat(given)
    except ValueError:
        try:
            time = now - timedelta(seconds=parse_duration(given))
        except InvalidArgumentError:
            raise InvalidArgumentError(
                f"{given[:64]!r} is no time", remedy="Write 2h, or 2026-11-20T09:00:00Z."
            ) from None
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


audit_list: Final = MetalctlCommand(
    "list",
    callback=_list,
    help="Search who called what; each call has a trace of its request and one of its answer.",
    params=[
        *(flag.option() for flag in _FLAGS),
        click.Option(
            ["--sort-by"],
            multiple=True,
            metavar="COLUMN,…",
            help="timestamp, user, path, status_code, …; with :asc or :desc behind it.",
        ),
    ],
)


@command("describe")
@click.argument("id", metavar="REQUEST_ID")
@click.option("--phase", metavar="PHASE", help="Only the trace of this phase, e.g. request.")
@click.option("--prettify-body", is_flag=True, help="Show bodies as the JSON that they are.")
@click.pass_context
def audit_describe(
    ctx: click.Context,
    id: str,  # noqa: A002  # the word of the interface
    *,
    phase: str | None,
    prettify_body: bool,  # the word of the interface
) -> None:
    """Show all that was noted down of a request."""
    settings = settings_of(ctx)
    search = {"rqid": id, **({"phase": phase} if phase else {})}
    with opened(settings) as client:
        found: list[Json] = client.call("POST", "/v1/audit/find", search) or []
    if not found:
        raise NotFoundError(
            f"there is no trace of request {id[:64]!r} in the last day",
            remedy="See `metalctl audit list --from`.",
        )
    for each in found if prettify_body else ():
        each["body"] = _pretty(each.get("body"))
    emit_one(settings, found)


def _pretty(body: object) -> object:
    try:
        return json.loads(body) if isinstance(body, str) and body else body
    except ValueError:
        return body
