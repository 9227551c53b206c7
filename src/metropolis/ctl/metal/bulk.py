# SPDX-License-Identifier: Apache-2.0
"""Doing what was planned: shown first, asked about where it matters, told as it goes."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from metropolis.base.errors import FailedPreconditionError, MetropolisError, UnavailableError
from metropolis.ctl.metal.client import Client
from metropolis.ctl.metal.diff import diff_text
from metropolis.ctl.metal.entity import Entity
from metropolis.ctl.metal.output import emit_list, is_colored, say, write
from metropolis.ctl.metal.plan import CREATE, DELETE, DONE, LEAVE, UPDATE, Step
from metropolis.ctl.metal.settings import MetalSettings
from metropolis.host.linux.clock import LinuxClock

Update = Callable[[Client, Entity, Step], Any]
_VERBS: Final = (CREATE, UPDATE, DELETE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How it is to be done.

    Attributes:
        is_dry: Show what would change and do nothing.
        is_quiet: Tell nothing meanwhile, only what came out.
        is_timed: Say when each thing was done.
        is_unasked: Do not ask.
        query: Of updates.
    """

    is_dry: bool = False
    is_quiet: bool = False
    is_timed: bool = False
    is_unasked: bool = False
    query: tuple[tuple[str, str], ...] = ()


def carry_out(
    settings: MetalSettings, client: Client, entity: Entity, steps: Sequence[Step], manner: Manner
) -> list[Any]:
    """Do the steps, one after the other; those that fail do not stop the others.

    Returns:
        What came out, as it was printed; nothing of a dry run.

    Raises:
        FailedPreconditionError: some failed, or nobody agreed.
        UnavailableError: the API went away; the steps after that were not tried.
    """
    for step in steps:
        for warning in step.warnings:
            say(f"warning: {warning}")
    if manner.is_dry:
        _show(settings, entity, steps)
        return []
    _ask(settings, entity, steps, manner)
    results: list[Any] = []
    failed = 0
    try:
        for step in steps:
            try:
                results.append(_do(client, entity, step, manner))
            except UnavailableError:
                raise
            except MetropolisError as error:
                if len(steps) == 1:
                    raise
                failed += 1
                say(f"error: {_named(entity, step)}: {error}\nremedy: {error.remedy}")
                continue
            if not manner.is_quiet and len(steps) > 1:
                _tell(entity, step, results[-1], manner)
    finally:
        if results:
            emit_list(settings, results, entity.tabulate)
    if failed:
        raise FailedPreconditionError(
            f"{failed} of {len(steps)} failed", remedy="Correct what was said above, then repeat."
        )
    return results


def _do(client: Client, entity: Entity, step: Step, manner: Manner) -> Any:  # noqa: ANN401  # JSON
    if step.verb == CREATE:
        return entity.created(client, step.body)
    if step.verb == UPDATE:
        return client.call("POST", entity.path, step.body, query=dict(manner.query))
    if step.verb == DELETE:
        return entity.deleted(client, step.key)
    return step.current


def _tell(entity: Entity, step: Step, result: Any, manner: Manner) -> None:  # noqa: ANN401  # JSON
    key = step.key or entity.id_of(result)
    at = f"{LinuxClock().wall():%H:%M:%S} " if manner.is_timed else ""
    say(f"{at}{DONE[step.verb]} {entity.noun} {key}")


def _show(settings: MetalSettings, entity: Entity, steps: Sequence[Step]) -> None:
    """Print what would change."""
    paint = paint_diff if is_colored(settings) else str
    for step in steps:
        title = f"{entity.words.replace(' ', '/')}/{step.key or 'new'}"
        write(diff_text(title, step.before, step.after, paint=paint))
    say(f"{_summary(entity, steps)}; nothing was done, because this was a dry run.")


def _ask(settings: MetalSettings, entity: Entity, steps: Sequence[Step], manner: Manner) -> None:
    """Ask a person before much, or something for good, is done; elsewhere nobody could answer."""
    is_deleting = any(step.verb == DELETE for step in steps)
    is_bulk = len(steps) > 1
    if manner.is_unasked or settings.is_sure or not (is_deleting or is_bulk):
        return
    if all(step.verb == LEAVE for step in steps):
        return
    if not sys.stdin.isatty():
        if is_deleting and is_bulk:
            raise FailedPreconditionError(
                f"{len(steps)} were not deleted: nobody is here to confirm it",
                remedy="Add --skip-security-prompts.",
            )
        return
    if not is_deleting:
        paint = paint_diff if sys.stderr.isatty() else str
        for step in steps:
            title = f"{entity.words.replace(' ', '/')}/{step.key or 'new'}"
            # YAML has spelled out what would move the cursor; the colours are ours.
            sys.stderr.write(diff_text(title, step.before, step.after, paint=paint))
    names = ", ".join(step.key for step in steps if step.verb == DELETE)
    confirm(f"{_summary(entity, steps)}{': ' + names if names else ''}")


def confirm(what: str) -> None:
    """Ask for a yes, in full.

    Raises:
        FailedPreconditionError: the answer is another one.
    """
    print(f"{what}. Type yes: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != "yes":
        raise FailedPreconditionError(
            "nothing was done", remedy="Type yes in full, or add --yes-i-really-mean-it."
        )


def ask(settings: MetalSettings, what: str) -> None:
    """Ask a person at a terminal; what a program does was meant.

    Raises:
        FailedPreconditionError: the person did not say yes.
    """
    if not settings.is_sure and sys.stdin.isatty():
        confirm(what)


def require_sure(settings: MetalSettings, what: str) -> None:
    """Let nothing that cannot be undone happen by accident.

    Raises:
        FailedPreconditionError: nobody said that they really mean it.
    """
    if settings.is_sure:
        return
    if not sys.stdin.isatty():
        raise FailedPreconditionError(
            f"not done: {what}", remedy="Add --yes-i-really-mean-it if that is what you want."
        )
    confirm(what[:1].upper() + what[1:])


def _summary(entity: Entity, steps: Sequence[Step]) -> str:
    counts = {verb: sum(step.verb == verb for step in steps) for verb in _VERBS}
    parts = [f"{verb} {count}" for verb, count in counts.items() if count]
    return f"{entity.noun}: {', '.join(parts)}" if parts else f"{entity.noun}: no changes"


def _named(entity: Entity, step: Step) -> str:
    return f"{step.verb} {entity.noun} {step.key}".rstrip()


def paint_diff(line: str) -> str:
    """Colour a line of a diff."""
    color = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
    return click.style(line, fg=color) if color else line
