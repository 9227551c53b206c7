# SPDX-License-Identifier: Apache-2.0
"""What somebody who mistyped a name probably meant. Pure."""

import difflib
from collections.abc import Iterable
from typing import Final

_SHOWN_MAX: Final = 3
_SIMILARITY: Final = 0.6


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """Return up to three known names that are spelled like `word`, nearest first."""
    choices = list(known)
    lowered = {name.lower(): name for name in reversed(choices)}
    found = difflib.get_close_matches(word.lower(), lowered, n=_SHOWN_MAX, cutoff=_SIMILARITY)
    return [lowered[name] for name in found]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "Did you mean A or B?", or nothing when nothing is near."""
    found = nearest(word, known)
    return f"Did you mean {' or '.join(found)}?" if found else ""
