# SPDX-License-Identifier: Apache-2.0
"""`metroctl completion`."""

import click
from click.shell_completion import get_completion_class

from metropolis.base.errors import InvalidArgumentError
from metropolis.ctl.command_line import command
from metropolis.ctl.suggestions import did_you_mean

SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_METROCTL_COMPLETE"


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
    if shell not in SHELLS:
        raise InvalidArgumentError(
            f"there is no completion for {shell[:64]!r}",
            remedy=did_you_mean(shell, SHELLS) or f"Choose from: {', '.join(SHELLS)}.",
        )
    kind = get_completion_class(shell)
    assert kind is not None, "click knows the three"
    script = kind(ctx.find_root().command, {}, "metroctl", _VARIABLE)
    print(script.source_template % script.source_vars())  # source() would run bash for its version
