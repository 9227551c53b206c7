# SPDX-License-Identifier: Apache-2.0
"""`metalctl machine create` and `metalctl firewall create`."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from metropolis.ctl.metal.cells import text
from metropolis.ctl.metal.client import Client
from metropolis.ctl.metal.entities import entity_of
from metropolis.ctl.metal.entity_commands import create_command
from metropolis.ctl.metal.flags import parse_duration
from metropolis.ctl.metal.output import say
from metropolis.ctl.metal.provisioning import TIMEOUT_S, follow
from metropolis.host.linux.clock import LinuxClock

_MINUTES: Final = f"{TIMEOUT_S / 60:.0f}m"


def _waiting() -> list[click.Parameter]:
    return [
        click.Option(["--wait"], is_flag=True, help="Tell its events until it phones home."),
        click.Option(
            ["--wait-timeout"],
            metavar="DURATION",
            default=_MINUTES,
            show_default=True,
            help="How long to wait.",
        ),
    ]


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def _wait(
    _ctx: click.Context, client: Client, made: Sequence[Any], given: Mapping[str, Any]
) -> None:
    if not given["wait"]:
        return
    timeout_s = parse_duration(given["wait_timeout"])
    for machine in made:
        key = text(machine, "id")
        try:
            say(f"Waiting for machine {key}; Ctrl-C stops the waiting, not the machine.")
            follow(
                client,
                key,
                timeout_s=timeout_s,
                told=say,
                pause=_pause,
                now_s=LinuxClock().monotonic_s,
            )
        except KeyboardInterrupt:
            say(f"It goes on without you: `metalctl machine logs {key}`.")
            raise


machine_create: Final = create_command(entity_of("machine"), extra=_waiting(), after=_wait)
firewall_create: Final = create_command(entity_of("firewall"), extra=_waiting(), after=_wait)
