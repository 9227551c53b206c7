# SPDX-License-Identifier: Apache-2.0
"""`metroctl audit`: who changed what, and whether the record of it is untouched."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import click

from metropolis.api.audit_pb2 import GetHeadResponse, Head, ListRequest, ListResponse
from metropolis.base.errors import InvalidArgumentError, MetropolisError
from metropolis.ctl import audit_log
from metropolis.ctl.audit_log import Entry
from metropolis.ctl.command_line import command
from metropolis.ctl.completions import complete_nodes
from metropolis.ctl.connection import Cluster
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import emit, opened, say
from metropolis.ctl.session import answered, run
from metropolis.ctl.settings import Settings
from metropolis.formats.audit.chain import head_text, parse_head
from metropolis.formats.audit.verification import Verdict
from metropolis.host.linux.clock import LinuxClock


@command("list")
@click.option("--since", default="", metavar="TIME", help="Begin there: 1h, 2d, or a date.")
@click.option("--user", default="", metavar="NAME", help="Only what this user or node did.")
@click.option("--method", default="", metavar="TEXT", help="Only methods with this in their name.")
@click.option(
    "--node",
    default="",
    metavar="ID",
    shell_complete=complete_nodes,
    help="Only what is about this node; a beginning of its id will do.",
)
@click.option("--outcome", default="", metavar="NAME", help="Only done, denied or failed.")
@click.option("--limit", type=click.IntRange(min=0), default=0, help="Only the newest; 0: all.")
@click.option("--newest-first", is_flag=True, help="In the other order.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new records.")
@click.pass_context
def audit_list(
    ctx: click.Context,
    *,
    since: str,
    user: str,
    method: str,
    node: str,
    outcome: str,
    limit: int,
    newest_first: bool,
    follow: bool,
) -> None:
    """List who changed what, and who tried to.

    Oldest first. -o wide shows addresses, keys and methods. With -f and -o json every record is
    a JSON document on a line of its own.
    """
    settings = settings_of(ctx)
    request = ListRequest(
        user=user,
        method=method,
        node=node,
        limit=limit,
        newest_first=newest_first,
        follow=follow,
    )
    if since:
        request.since.CopyFrom(audit_log.parse_since(since, now=LinuxClock().wall()))
    if outcome:
        request.outcome = audit_log.parse_outcome(outcome)
    if follow:
        _follow(settings, request)
    else:
        _list(settings, request)


def _list(settings: Settings, request: ListRequest) -> None:
    entries: list[Entry] = []

    async def act(cluster: Cluster) -> None:
        await audit_log.read(cluster, request, lambda got: entries.append(audit_log.entry_of(got)))

    run(settings, act)
    if not entries:
        say("No record matches.")
    is_wide = settings.output == "wide"
    emit(
        settings,
        data=lambda: [audit_log.document(entry) for entry in entries],
        text=lambda: audit_log.table(entries, is_wide=is_wide, width=_width(settings)),
    )


def _width(settings: Settings) -> int:
    """Return where lines end: at the edge of a terminal, unless everything was asked for."""
    is_narrow = settings.output == "table" and settings.output_file is None
    is_terminal = is_narrow and sys.stdout.isatty()
    return shutil.get_terminal_size((80, 24)).columns if is_terminal else 0


def _follow(settings: Settings, request: ListRequest) -> None:
    with opened(settings) as out:
        show = _as_json(out) if settings.output == "json" else _as_text(out, _width(settings))

        async def act(cluster: Cluster) -> None:
            answered()
            await audit_log.follow(cluster, request, show, lost=_say_lost)

        run(settings, act, is_long=True)


def _say_lost(error: MetropolisError) -> None:
    say(f"The cluster is not heard any more, going on as soon as it is: {error}")


def _as_text(out: TextIO, width: int) -> Callable[[ListResponse], None]:
    def show(got: ListResponse) -> None:
        print(audit_log.one_line(audit_log.entry_of(got), width=width), file=out, flush=True)

    return show


def _as_json(out: TextIO) -> Callable[[ListResponse], None]:
    def show(got: ListResponse) -> None:
        shown = audit_log.document(audit_log.entry_of(got))
        print(json.dumps(shown, ensure_ascii=False), file=out, flush=True)

    return show


@command("head")
@click.pass_context
def audit_head(ctx: click.Context) -> None:
    """Print where the log ends, to be kept elsewhere.

    `metroctl audit verify --since` compares later: so nobody who can write the cluster's store
    can cut the log short or write it anew without being noticed.
    """
    settings = settings_of(ctx)

    async def act(cluster: Cluster) -> GetHeadResponse:
        return await audit_log.get_head(cluster)

    found = run(settings, act)
    if found.problem:
        say(f"The leader found the log changed: {found.problem}. Run `metroctl audit verify`.")
    emit(
        settings,
        data=lambda: audit_log.head_document(found.head),
        text=lambda: f"{head_text(found.head)}\n",
    )


@command("verify")
@click.option(
    "--since",
    "kept",
    multiple=True,
    metavar="HEAD",
    help="What `metroctl audit head` printed before, or @FILE with it. May be repeated.",
)
@click.pass_context
def audit_verify(ctx: click.Context, kept: tuple[str, ...]) -> None:
    """Verify that the log is untouched: no record was changed, removed or added.

    Every record is fetched and checked here. Without --since the log is compared with what the
    cluster itself says is its end.
    """
    settings = settings_of(ctx)
    heads = [_read_head(text) for text in kept]

    async def act(cluster: Cluster) -> tuple[Verdict, Head]:
        return await audit_log.verify(cluster, heads)

    verdict, end = run(settings, act)
    emit(
        settings,
        data=lambda: {
            "records": verdict.records,
            "first": str(verdict.first),
            "last": str(verdict.last),
            "head": head_text(end),
        },
        text=lambda: f"{head_text(end)}\n",
    )
    span = f": {verdict.first} to {verdict.last}" if verdict.records else ""
    say(f"Verified {verdict.records} records{span}.")


def _read_head(text: str) -> Head:
    if not text.startswith("@"):
        return parse_head(text)
    try:
        return parse_head(Path(text[1:]).read_text(encoding="utf-8", errors="replace"))
    except OSError as cause:
        raise InvalidArgumentError(
            f"cannot read {text[1:]}: {cause.strerror}",
            remedy="Name a file that `metroctl audit head --output-file` wrote.",
        ) from cause
