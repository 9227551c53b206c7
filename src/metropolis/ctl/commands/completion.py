# SPDX-License-Identifier: Apache-2.0
"""`metroctl completion`."""

import click

from metropolis.ctl.command_line import METROCTL, command
from metropolis.ctl.completion_script import script_of


@command("completion")
@click.argument("shell", metavar="bash|zsh|fish")
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion of a shell.

    It completes commands, flags, and the ids of live nodes. Put this into ~/.bashrc:

        source <(metroctl completion bash)

    into ~/.zshrc the same with zsh, or run once for fish:

        metroctl completion fish > ~/.config/fish/completions/metroctl.fish
    """
    print(script_of(ctx, shell, tool=METROCTL.name))
