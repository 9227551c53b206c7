# SPDX-License-Identifier: Apache-2.0
"""Who waits, and where: the text of a deadlock."""

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from types import CodeType
from typing import Any

PLACES_MAX = 6  # innermost first; the rest of a stack is rarely the reason
TASKS_MAX = 40


def describe_tasks(tasks: Iterable[asyncio.Task[Any]]) -> str:
    """Name tasks, one line each, with the places where they wait, innermost first."""
    lines = [f"  {task.get_name()}: {_places(task)}" for task in tasks]
    rest = len(lines) - TASKS_MAX
    return "\n".join([*lines[:TASKS_MAX], *([f"  and {rest} more"] if rest > 0 else [])])


def _places(task: asyncio.Task[Any]) -> str:
    places = [_place(code, line) for code, line in _frames(task.get_coro())]
    shown = " <- ".join(reversed(places[-PLACES_MAX:]))
    return f"waits in {shown}" if shown else "has not started or is ending"


def _frames(awaited: object) -> Iterator[tuple[CodeType, int]]:
    """Follow a chain of awaits from a task's coroutine inwards."""
    while awaited is not None:
        for prefix in ("cr", "gi", "ag"):
            frame = getattr(awaited, f"{prefix}_frame", None)
            if frame is not None:
                yield frame.f_code, frame.f_lineno
                awaited = getattr(awaited, f"{prefix}_await", None) or getattr(
                    awaited, f"{prefix}_yieldfrom", None
                )
                break
        else:
            return


def _place(code: CodeType, line: int) -> str:
    path = PurePath(code.co_filename)
    return f"{'/'.join(path.parts[-2:])}:{line} in {code.co_qualname}"
