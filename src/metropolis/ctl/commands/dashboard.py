# SPDX-License-Identifier: Apache-2.0
"""`metroctl dashboard`."""

import asyncio
import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import click

from metropolis.base.errors import MetropolisError
from metropolis.ctl import nodes
from metropolis.ctl.choice import context_of
from metropolis.ctl.command_line import command
from metropolis.ctl.completions import complete_nodes
from metropolis.ctl.connection import Cluster
from metropolis.ctl.dashboard import plain
from metropolis.ctl.dashboard.app import App
from metropolis.ctl.dashboard.feed import Feed
from metropolis.ctl.dashboard.model import worst_node
from metropolis.ctl.dashboard.terminal import Terminal, wants_color
from metropolis.ctl.documents import document_of, node_document
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import emit
from metropolis.ctl.session import answered, run
from metropolis.ctl.settings import Settings

INTERVAL_S: Final = 2.0
INTERVAL_MIN_S: Final = 0.2


@command("dashboard")
@click.argument("node_id", required=False, default="", shell_complete=complete_nodes)
@click.option(
    "-n",
    "--interval",
    "interval_s",
    type=click.FloatRange(min=INTERVAL_MIN_S),
    default=INTERVAL_S,
    show_default=True,
    metavar="SECONDS",
    help="How often to ask the cluster; larger is cheaper.",
)
@click.option("--watch", is_flag=True, help="Without the page: print a snapshot every interval.")
@click.pass_context
def dashboard(ctx: click.Context, node_id: str, *, interval_s: float, watch: bool) -> int:
    """Show the cluster while it changes: nodes, leader, votes, why a node is ill, its log.

    On a terminal this is a page that the keyboard works: ? says how, q quits. Elsewhere it prints
    one snapshot. NODE_ID is selected at first; without it a node that is not healthy.
    """
    settings = settings_of(ctx)
    context = context_of(settings)
    name = context.name or ", ".join(context.endpoints)
    is_page = not watch and settings.output == "table" and settings.output_file is None
    if is_page and _is_terminal():

        async def show(cluster: Cluster) -> int:
            return await _show_page(cluster, settings, name, node_id, interval_s)

        return run(settings, show, is_long=True)

    async def tell(cluster: Cluster) -> None:
        await _print_snapshots(cluster, settings, name, node_id, interval_s if watch else None)

    run(settings, tell, is_long=watch)
    return 0


async def _show_page(
    cluster: Cluster, settings: Settings, name: str, node_id: str, interval_s: float
) -> int:
    """Take the terminal, until the operator quits; return the exit status."""
    answered()
    selected_id = ""
    if node_id:
        node = await nodes.find_node(cluster.channel, node_id, timeout_s=cluster.timeout_s)
        selected_id = node.id
    terminal = Terminal(
        sys.stdin.fileno(),
        sys.stdout.fileno(),
        has_colors=wants_color(os.environ),
        encoding=sys.stdout.encoding,
    )
    app = App(terminal, interval_s=interval_s, selected_id=selected_id)
    feed = Feed(
        cluster,
        name=name,
        interval_s=interval_s,
        filter_text=settings.filter_text,
        changed=app.touch,
    )
    with _silent(), terminal:
        return await app.run(feed)


async def _print_snapshots(
    cluster: Cluster, settings: Settings, name: str, node_id: str, interval_s: float | None
) -> None:
    """Print what is known once, or every so many seconds until interrupted."""
    feed = Feed(cluster, name=name, interval_s=0, filter_text=settings.filter_text)
    while True:
        try:
            await feed.poll_once()
            await _ask_about(feed, node_id)
        except MetropolisError as error:
            if interval_s is None or not error.retryable:
                raise
            feed.fail(error)
        answered()
        emit(settings, data=lambda: _document(feed), text=lambda: plain.text_of(feed.model))
        if interval_s is None:
            return
        await asyncio.sleep(interval_s)
        print(flush=True)


async def _ask_about(feed: Feed, node_id: str) -> None:
    """Read explanation and log of the node that was named, or of the one to look at first."""
    wanted = worst_node(feed.model.nodes)
    if node_id:
        wanted = nodes.pick(feed.nodes, node_id).id
    if not wanted:
        return
    await feed.explain_once(wanted)
    await feed.read_log_once(wanted, backlog=plain.LOG_LINES)


def _document(feed: Feed) -> dict[str, Any]:
    """Convert what is known for JSON and YAML."""
    return {
        "leader_id": feed.model.leader_id,
        "problem": feed.model.problem,
        "nodes": [node_document(node) for node in feed.nodes],
        "members": [document_of(member) for member in feed.members],
        "explanation": list(feed.model.explanation),
        "log": list(feed.model.log),
    }


def _is_terminal() -> bool:
    """Whether there is a terminal that can show a page."""
    is_able = os.environ.get("TERM", "dumb") not in ("", "dumb")
    return is_able and sys.stdin.isatty() and sys.stdout.isatty()


@contextmanager
def _silent() -> Generator[None, None, None]:
    """Keep what is logged off the page."""
    log = logging.getLogger("metropolis")
    before, propagates = log.handlers[:], log.propagate
    log.handlers[:], log.propagate = [logging.NullHandler()], False
    try:
        yield
    finally:
        log.handlers[:], log.propagate = before, propagates
