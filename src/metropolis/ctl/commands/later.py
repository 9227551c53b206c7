# SPDX-License-Identifier: Apache-2.0
"""Commands that have a name and no meaning in this build. They say so, and what to do instead."""

from collections.abc import Sequence
from typing import Final, NoReturn

import click

from metropolis.base.errors import UnimplementedError
from metropolis.ctl.command_line import command

_ANYTHING: Final = {"ignore_unknown_options": True}


@command("ssh", context_settings=_ANYTHING)
@click.argument("arguments", nargs=-1)
def install_ssh(arguments: Sequence[str]) -> NoReturn:
    """Install a machine over SSH (not in this build)."""
    del arguments
    raise UnimplementedError(
        "metroctl install ssh is not in this build: machines are installed from a medium",
        remedy="Write one with `metroctl install genusb`, and start the machine from it.",
    )
