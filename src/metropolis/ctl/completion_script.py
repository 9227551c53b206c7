# SPDX-License-Identifier: Apache-2.0
"""What a shell reads to complete a tool's command lines."""

from typing import Final

import click
from click.shell_completion import get_completion_class

from metropolis.base.errors import InvalidArgumentError
from metropolis.ctl.suggestions import did_you_mean

SHELLS: Final = ("bash", "zsh", "fish")


def script_of(ctx: click.Context, shell: str, *, tool: str) -> str:
    """Return the script of a shell.

    Raises:
        InvalidArgumentError: there is none for it.
    """
    if shell not in SHELLS:
        raise InvalidArgumentError(
            f"there is no completion for {shell[:64]!r}",
            remedy=did_you_mean(shell, SHELLS) or f"Choose from: {', '.join(SHELLS)}.",
        )
    kind = get_completion_class(shell)
    assert kind is not None, "click knows the three"
    script = kind(ctx.find_root().command, {}, tool, f"_{tool.upper()}_COMPLETE")
    return script.source_template % script.source_vars()  # source() would run bash for its version
