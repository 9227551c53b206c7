# SPDX-License-Identifier: Apache-2.0
"""Commands that have a name and no meaning in this build. They say so, and what to do instead."""

from collections.abc import Sequence
from typing import Final, NoReturn

import click

from metropolis.base.errors import UnimplementedError
from metropolis.ctl.command_line import command

_ANYTHING: Final = {"ignore_unknown_options": True}


@command("genusb", context_settings=_ANYTHING)
@click.argument("arguments", nargs=-1)
def genusb(arguments: Sequence[str]) -> NoReturn:
    """Write an install medium (not in this build)."""
    _refuse_install("install genusb", arguments)


@command("ssh", context_settings=_ANYTHING)
@click.argument("arguments", nargs=-1)
def install_ssh(arguments: Sequence[str]) -> NoReturn:
    """Install a machine over SSH (not in this build)."""
    _refuse_install("install ssh", arguments)


def _refuse_install(name: str, arguments: Sequence[str]) -> NoReturn:
    del arguments
    raise UnimplementedError(
        f"metroctl {name} is not in this build: there is no system image to install yet",
        remedy="Run a cluster on this computer with `metropolis launch`.",
    )
