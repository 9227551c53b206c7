# SPDX-License-Identifier: Apache-2.0
"""How either tool answers a shell that asks for completions: never fails, never waits for long.

Light: every command module refers to its tool's `completions`, and those to this.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

TIMEOUT_S: Final = 3.0  # a shell that hangs is worse than one that offers nothing

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def offer(names: Mapping[str, str], incomplete: str) -> list[CompletionItem]:
    """Offer the names that begin so, in any case, each with a hint or none."""
    return [
        CompletionItem(name, help=text or None)
        for name, text in names.items()
        if name.lower().startswith(incomplete.lower())
    ]


def quietly(complete: Callable[[], Iterable[Any]]) -> list[CompletionItem]:
    """Return what is found; nothing when that fails."""
    try:
        return list(complete())
    except Exception:  # noqa: BLE001  # whatever is wrong, the prompt is no place to say it
        return []
