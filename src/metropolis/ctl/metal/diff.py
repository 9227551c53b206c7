# SPDX-License-Identifier: Apache-2.0
"""What a change would change, for people to read before it happens. Pure."""

import difflib
from collections.abc import Callable
from typing import Any, cast

from metropolis.ctl.metal.cells import Json
from metropolis.ctl.printing import yaml_text


def meant(value: Any) -> Any:  # noqa: ANN401  # JSON
    """Leave out what is empty: the API fills it in, and nobody means anything by it."""
    if isinstance(value, dict):
        entries = cast("Json", value)
        kept = {key: meant(entries[key]) for key in sorted(entries)}
        return {key: each for key, each in kept.items() if not _is_empty(each)}
    if isinstance(value, list):
        return [meant(each) for each in cast("list[object]", value)]
    return value


def _is_empty(value: object) -> bool:
    return value is None or value is False or value in ("", 0) or value in ({}, [])


def differs(before: Json, after: Json) -> bool:
    """Whether two documents mean different things."""
    return bool(meant(before) != meant(after))


def diff_text(
    title: str, before: Json | None, after: Json | None, *, paint: Callable[[str], str]
) -> str:
    """Render a unified diff of two documents; None: there is none.

    Args:
        paint: Colours a line.
    """
    is_change = before is not None and after is not None
    old = _lines(before, is_change=is_change)
    new = _lines(after, is_change=is_change)
    from_name = "/dev/null" if before is None else f"a/{title}"
    to_name = "/dev/null" if after is None else f"b/{title}"
    lines = difflib.unified_diff(old, new, from_name, to_name, n=3, lineterm="")
    return "".join(paint(line) + "\n" for line in lines)


def _lines(document: Json | None, *, is_change: bool) -> list[str]:
    """Render a document; of a change what is empty would only distract."""
    if document is None:
        return []
    return yaml_text(meant(document) if is_change else document).splitlines()
