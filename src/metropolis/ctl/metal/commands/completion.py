# SPDX-License-Identifier: Apache-2.0
"""`metalctl completion`."""

import click

from metropolis.ctl.completion_script import script_of
from metropolis.ctl.metal.options import METALCTL, command


@command("completion")
@click.argument("shell", metavar="bash|zsh|fish")
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion of a shell.

    It completes commands, flags, and live ids of machines, sizes, networks and all else. Put this
    into ~/.bashrc:

        source <(metalctl completion bash)

    into ~/.zshrc the same with zsh, or run once for fish:

        metalctl completion fish > ~/.config/fish/completions/metalctl.fish
    """
    print(script_of(ctx, shell, tool=METALCTL.name))
