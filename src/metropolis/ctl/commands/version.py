# SPDX-License-Identifier: Apache-2.0
"""`metroctl version`."""

import click

from metropolis import __version__
from metropolis.ctl.command_line import command
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import emit


@command("version")
@click.pass_context
def version(ctx: click.Context) -> None:
    """Print the version."""
    emit(settings_of(ctx), data={"version": __version__}, text=f"metroctl {__version__}\n")
