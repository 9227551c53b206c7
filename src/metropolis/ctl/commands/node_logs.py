# SPDX-License-Identifier: Apache-2.0
"""`metroctl node logs`."""

import json
import shutil
from collections.abc import Callable
from typing import TextIO

import click

from metropolis.api.logtree_pb2 import LogEntry
from metropolis.base.errors import InvalidArgumentError
from metropolis.ctl import node_logs as logs
from metropolis.ctl import nodes
from metropolis.ctl.command_line import command
from metropolis.ctl.completions import complete_nodes
from metropolis.ctl.connection import Cluster, address_of
from metropolis.ctl.documents import document_of
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import opened, say
from metropolis.ctl.session import answered, run
from metropolis.supervision.log_text import format_concise, format_entry
from metropolis.supervision.logtree_wire import from_wire

Show = Callable[[LogEntry], None]


@command("logs")
@click.argument("node_id", shell_complete=complete_nodes)
@click.option("-f", "--follow", is_flag=True, help="Go on with new entries.")
@click.option("--dn", default="", metavar="NAME", help="Runnable to read, e.g. root.role.")
@click.option("-e", "--exact", is_flag=True, help="Not those below it.")
@click.option("-c", "--concise", is_flag=True, help="Short form, for narrow terminals.")
@click.option(
    "--backlog", type=int, default=-1, metavar="N", help="Only the last N entries; -1: all."
)
@click.option("--severity", default="", metavar="NAME", help="At least info|warning|error|fatal.")
@click.option("--raw", is_flag=True, help="Only lines that other programs printed.")
@click.option("--leveled", is_flag=True, help="Only entries of the node's own code.")
@click.pass_context
def node_logs(
    ctx: click.Context,
    node_id: str,
    *,
    follow: bool,
    dn: str,
    exact: bool,
    concise: bool,
    backlog: int,
    severity: str,
    raw: bool,
    leveled: bool,
) -> None:
    """Read the log of a node.

    With -o json every entry is a JSON document on a line of its own.
    """
    settings = settings_of(ctx)
    query = logs.Query(
        dn=dn,
        is_exact=exact,
        backlog=backlog,
        follow=follow,
        severity=severity,
        only_raw=raw,
        only_leveled=leveled,
    )
    request = logs.request_of(query)

    async def act(cluster: Cluster) -> None:
        node = await nodes.find_node(cluster.channel, node_id, timeout_s=cluster.timeout_s)
        async with cluster.dial_node(node) as channel:
            show = _as_json(out) if settings.output == "json" else _as_text(out, concise=concise)
            answered()
            say(f"=== Logs from {node.id} ({address_of(node)}):")
            await logs.read(channel, request, show)
        say("=== Done.")

    with opened(settings) as out:
        run(settings, act)


def _as_text(out: TextIO, *, concise: bool) -> Show:
    width = shutil.get_terminal_size((0, 0)).columns if out.isatty() else 0

    def show(message: LogEntry) -> None:
        try:
            entry = from_wire(message)
        except InvalidArgumentError as error:
            say(str(error))
            return
        text = format_concise(entry, width=width) if concise else format_entry(entry)
        print(text, file=out, flush=True)

    return show


def _as_json(out: TextIO) -> Show:
    def show(message: LogEntry) -> None:
        print(json.dumps(document_of(message), ensure_ascii=False), file=out, flush=True)

    return show
