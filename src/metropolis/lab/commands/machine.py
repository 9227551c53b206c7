# SPDX-License-Identifier: Apache-2.0
"""`metropolis power` and `metropolis console`: what somebody does who stands before a machine."""

import asyncio
import sys
from pathlib import Path
from typing import Final, cast

import click

from metropolis.base.errors import InvalidArgumentError, NotFoundError
from metropolis.ctl.help_settings import HELP_SETTINGS
from metropolis.host.linux.capabilities import check_owner
from metropolis.lab.cluster import LabCluster, PowerChange
from metropolis.lab.commands.options import existing_cluster, name_option, run
from metropolis.lab.console import ConsoleReader, last_lines, plain
from metropolis.lab.progress import Progress

_LINES: Final = 100
_LOOK_AGAIN_S: Final = 0.1
_SAID: Final = {
    "on": "is on",
    "off": "is off",
    "kill": "lost its power",
    "cycle": "lost its power and is on again",
}


@click.command("power", context_settings=dict(HELP_SETTINGS))
@click.argument("node", type=int)
@click.argument("to", type=click.Choice(["on", "off", "cycle", "cut"]), metavar="on|off|cycle|cut")
@name_option
@click.option(
    "--medium",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With on: plug in a stick with this content first; without it, the stick is taken out.",
)
def power(node: int, to: str, name: str, medium: Path | None) -> None:
    """Press the power switch of machine NODE.

    off asks it to shut down and cuts the power after a while, cut does so at once; cycle is a cut
    and on again.
    """
    if medium is not None and to != "on":
        raise InvalidArgumentError(
            "a stick is plugged in before a machine is switched on",
            remedy=f"Run `metropolis power {node} cut`, then on with --medium.",
        )
    cluster = existing_cluster(name)
    check_owner(cluster.directory.path)
    _check_number(cluster, node)
    change = cast("PowerChange", "kill" if to == "cut" else to)
    with Progress(sys.stderr, title="power") as progress:
        progress.awaiting(f"node {node}")
        if to == "on":
            run(_plug_in(cluster, node, medium))
        run(cluster.power(node, change))
        stick = "" if medium is None else f", with a stick that holds {medium.name}"
        progress.say(f"node {node} {_SAID[change]}{stick}")


@click.command("console", context_settings=dict(HELP_SETTINGS))
@click.argument("node", type=int)
@name_option
@click.option("-f", "--follow", is_flag=True, help="Go on until interrupted.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    default=_LINES,
    show_default=True,
    help="How many of the newest lines to begin with.",
)
def console(node: int, name: str, lines: int, *, follow: bool) -> None:
    """Show what machine NODE prints. Nobody can type there: a node has no login."""
    cluster = existing_cluster(name)
    _check_number(cluster, node)
    path = cluster.directory.console(node)
    reader = ConsoleReader(path)  # before the last lines: better twice than never
    for line in last_lines(path, lines):
        print(plain(line))
    sys.stdout.flush()
    if follow:
        asyncio.run(_follow(reader))


async def _plug_in(cluster: LabCluster, node: int, medium: Path | None) -> None:
    """Have the stick in that is wanted, or none. A machine that is on keeps what it has."""
    machine = (await cluster.status())[node]
    if medium is not None or machine.power == "off":
        await cluster.plug_in(node, medium)


async def _follow(reader: ConsoleReader) -> None:
    while True:
        if text := reader.read():
            sys.stdout.write(plain(text))
            sys.stdout.flush()
        await asyncio.sleep(_LOOK_AGAIN_S)


def _check_number(cluster: LabCluster, node: int) -> None:
    rack = cluster.rack
    if node not in rack.numbers:
        raise NotFoundError(
            f"cluster {rack.name!r} has no node {node}",
            remedy=f"Name a node from 0 to {rack.count - 1}.",
        )
