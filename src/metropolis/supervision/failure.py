# SPDX-License-Identifier: Apache-2.0
"""Describing how a runnable failed, or what it is stuck on, for people who read logs.

Source lines are not quoted: reading them back costs more than restarting the runnable does, and
a node need not carry them.
"""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from types import CodeType, FrameType, TracebackType
from typing import cast

from metropolis.base.errors import chain, leaves

FRAMES_MAX = 16  # innermost frames shown per error
ERRORS_MAX = 8  # errors of a group, and of a chain, that are shown with their frames
TREE_FRAME = "Supervisor._drive"  # below every runnable, and never of interest
AWAITS_MAX = 4  # innermost frames shown of what a stuck runnable awaits


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Attributes: `lines[0]` says what failed; `file` and `line` are where it was raised."""

    summary: str
    lines: list[str]
    file: str
    line: int


def describe(error: BaseException) -> Failure:
    """Flatten groups and causes, and list where each error was raised."""
    summary = _summary(error)
    lines = [f"runnable returned error: {summary}"]
    where: tuple[CodeType, int] | None = None
    is_in_group = True
    for link in islice(_links(error), ERRORS_MAX):
        remedy = getattr(link, "remedy", "")
        if isinstance(remedy, str) and remedy:
            lines.append(f"remedy: {remedy}")
        frames = list(_frames(link.__traceback__))
        if not frames:
            continue
        lines.append(f"{type(link).__name__}, raised in:")
        lines += [f"  {_place(code)}:{number} in {code.co_name}" for code, number in frames]
        if is_in_group:  # the place of what is inside a group says more than where it was gathered
            where, is_in_group = frames[-1], isinstance(link, BaseExceptionGroup)
    file, line = ("unknown", 0) if where is None else (where[0].co_filename, where[1])
    return Failure(summary=summary, lines=lines, file=file, line=line)


def _summary(error: BaseException) -> str:
    return "; ".join(_named(leaf) for leaf in leaves(error))


def _named(error: BaseException) -> str:
    """Name Python's own errors, whose texts ("'key'") say little; ours speak for themselves."""
    kind = type(error)
    try:
        text = chain(error)
    except Exception:  # noqa: BLE001  # an error's __str__ may raise anything
        return f"{kind.__name__}, which cannot be printed"
    return (
        text
        if kind.__module__ != "builtins" or text == kind.__name__
        else f"{kind.__name__}: {text}"
    )


def _links(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what it groups, and its causes."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for inner in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _links(inner)
    if error.__cause__ is not None:
        yield from _links(error.__cause__)


def _frames(traceback: TracebackType | None) -> Iterator[tuple[CodeType, int]]:
    frames: list[tuple[CodeType, int]] = []
    while traceback is not None:
        frames.append((traceback.tb_frame.f_code, traceback.tb_lineno))
        traceback = traceback.tb_next
    if frames and frames[0][0].co_qualname == TREE_FRAME:
        del frames[0]
    yield from frames[-FRAMES_MAX:]


def _place(code: CodeType) -> str:
    """Return the last two parts of a path: enough to find a file, short enough to read."""
    directory, base = os.path.split(code.co_filename)
    return f"{os.path.basename(directory)}/{base}"  # noqa: PTH119  # a Path costs ten times more


def awaited_by(task: asyncio.Task[None]) -> str:
    """Say what a suspended task awaits, outermost frame first."""
    frames: list[FrameType] = []
    awaitable: object = task.get_coro()
    while awaitable is not None:
        frame = next(
            (getattr(awaitable, name, None) for name in ("cr_frame", "gi_frame", "ag_frame")
             if hasattr(awaitable, name)),
            None,
        )  # fmt: skip
        if not isinstance(frame, FrameType):
            break
        frames.append(frame)
        awaitable = next(
            (getattr(awaitable, name) for name in ("cr_await", "gi_yieldfrom", "ag_await")
             if hasattr(awaitable, name)),
            None,
        )  # fmt: skip
    places = [f"{f.f_code.co_name} ({_place(f.f_code)}:{f.f_lineno})" for f in frames[1:]]
    return " > ".join(places[-AWAITS_MAX:]) or "nothing: it was never started"
