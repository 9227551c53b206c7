# SPDX-License-Identifier: Apache-2.0
"""Data on stdout as people or programs want it; talk on stderr."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import click

from metropolis.base.errors import InvalidArgumentError
from metropolis.ctl.metal import template
from metropolis.ctl.metal.cells import Json, Table, View
from metropolis.ctl.metal.settings import MetalSettings
from metropolis.ctl.printing import json_text, yaml_text
from metropolis.ctl.text_table import render, visible
from metropolis.host.linux.clock import LinuxClock

Tabulate = Callable[[Sequence[Json], View], Table]

_COLORS: Final[Mapping[str, str]] = {
    "Alive": "green",
    "Phoned Home": "green",
    "healthy": "green",
    "operational": "green",
    "Dead": "red",
    "Crashed": "red",
    "unhealthy": "red",
    "critical": "red",
    "major": "yellow",
    "deprecated": "yellow",
    "replace": "yellow",
}


def emit_list(
    settings: MetalSettings,
    items: Sequence[Any],
    tabulate: Tabulate,
    *,
    error_threshold_s: float | None = None,
) -> None:
    """Print entities."""
    if settings.output == "template":
        parsed = _template(settings)
        write("".join(template.render(parsed, item) + "\n" for item in items))
    elif settings.output in ("json", "yaml"):
        write(_document_text(settings, list(items)))
    else:
        view = view_of(settings, error_threshold_s=error_threshold_s)
        write(table_text(settings, tabulate(items, view)))


def emit_one(settings: MetalSettings, item: Any, tabulate: Tabulate | None = None) -> None:  # noqa: ANN401  # JSON
    """Print one entity: as YAML unless something else is wanted and can be had."""
    is_table = settings.output in ("table", "wide", "markdown")
    if settings.output == "template":
        write(template.render(_template(settings), item) + "\n")
    elif is_table and tabulate is not None:
        write(table_text(settings, tabulate([item], view_of(settings))))
    else:
        write(_document_text(settings, item))


def _template(settings: MetalSettings) -> template.Template:
    if not settings.template:
        raise InvalidArgumentError(
            "-o template needs a template", remedy="Add --template '{{ .id }}'."
        )
    return template.parse(settings.template)


def table_text(settings: MetalSettings, table: Table) -> str:
    """Render a table as the settings want it."""
    if settings.output == "markdown":
        return markdown(table, has_headers=settings.has_headers)
    paint = _painter(table) if is_colored(settings) else None
    return render(table.headers, table.rows, paint=paint, has_headers=settings.has_headers)


def markdown(table: Table, *, has_headers: bool = True) -> str:
    """Render a table of Markdown."""
    lines = [tuple(_escaped(cell) for cell in row) for row in table.rows]
    if has_headers:
        lines[:0] = [tuple(map(_escaped, table.headers)), tuple("---" for _ in table.headers)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def view_of(settings: MetalSettings, *, error_threshold_s: float | None = None) -> View:
    """Return how tables are looked at."""
    view = View(
        now=LinuxClock().wall(),
        is_wide=settings.output == "wide",
        has_symbols=has_symbols(settings),
    )
    if error_threshold_s is None:
        return view
    return View(
        now=view.now,
        is_wide=view.is_wide,
        has_symbols=view.has_symbols,
        error_threshold_s=error_threshold_s,
    )


def is_colored(settings: MetalSettings) -> bool:
    """Whether colours belong into what is printed."""
    if settings.force_color:
        return True
    return (
        sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "dumb") != "dumb"
    )


def has_symbols(settings: MetalSettings) -> bool:
    """Whether the reader sees pictures; pipes and terminals without UTF-8 get words."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return is_utf8 and (settings.force_color or sys.stdout.isatty())


def write(text: str) -> None:
    """Print data."""
    sys.stdout.write(text)
    sys.stdout.flush()


def say(message: str) -> None:
    """Tell people something, on stderr."""
    print(visible_lines(message), file=sys.stderr, flush=True)


def visible_lines(text: str) -> str:
    """Spell out what would move the cursor, but leave lines as they are."""
    return "\n".join(map(visible, text.split("\n")))


def _document_text(settings: MetalSettings, document: object) -> str:
    return json_text(document) if settings.output == "json" else yaml_text(document)


def _painter(table: Table) -> Callable[[str], str]:
    def paint(cell: str) -> str:
        color = "blue" if cell in table.lit else _COLORS.get(cell)
        return click.style(cell, fg=color) if color else cell

    return paint


def _escaped(cell: str) -> str:
    return visible(cell).replace("\\", "\\\\").replace("|", "\\|")
