# SPDX-License-Identifier: Apache-2.0
"""The two pages, as rows of text of one width. Pure."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from metropolis.node.console.facts import Facts

COLUMNS_MIN: Final = 40
ROWS_MIN: Final = 8
_LABEL_COLUMNS: Final = 14
_UNKNOWN: Final = "Waiting..."


class Page(Enum):
    """What is shown."""

    STATUS = "Status"
    LOG = "Log"

    @property
    def next(self) -> "Page":
        """The page that Tab turns to."""
        return Page.LOG if self is Page.STATUS else Page.STATUS


class Style(Enum):
    """How a row looks."""

    PLAIN = "plain"
    BAR = "bar"
    TROUBLE = "trouble"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the screen, as wide as it is."""

    text: str
    style: Style = Style.PLAIN


def compose(
    page: Page, facts: Facts, log: Sequence[str], *, rows: int, columns: int, clock: str
) -> Sequence[Row]:
    """Return exactly `rows` rows of `columns` characters.

    Args:
        log: Lines of the log, the newest last; as many as there is room for are shown.
        clock: Date and time for the lower bar.
    """
    rows, columns = max(rows, ROWS_MIN), max(columns, COLUMNS_MIN)
    room = rows - 2
    if page is Page.STATUS:
        body = _status(facts, columns=columns)[:room]
    else:
        body = [Row(text=line) for line in log[-room:]]
    body += [Row(text="")] * (room - len(body))
    upper = _bar(f" {facts.product}", f"{facts.variant} ", columns)
    pages = "  ".join(f"[{each.value}]" if each is page else f" {each.value} " for each in Page)
    lower = _bar(f" {pages}   Tab: other page", f"{clock} ", columns)
    return [upper, *(_fit(row, columns) for row in body), lower]


def _status(facts: Facts, *, columns: int) -> list[Row]:
    lines: list[Row] = [Row(text="")]

    def add(label: str, text: str, style: Style = Style.PLAIN) -> None:
        width = max(columns - _LABEL_COLUMNS - 4, 10)
        for number, part in enumerate(textwrap.wrap(text, width) or [""]):
            head = label if number == 0 else ""
            lines.append(Row(text=f"  {head:<{_LABEL_COLUMNS}}{part}", style=style))

    add("Node", facts.node_id or _UNKNOWN)
    add("Addresses", ", ".join(facts.addresses) or _UNKNOWN)
    add("Roles", ", ".join(facts.roles) or (_UNKNOWN if facts.waits_for else "none"))
    add("Cluster CA", f"sha256:{facts.ca_fingerprint}" if facts.ca_fingerprint else _UNKNOWN)
    add("System", facts.system or _UNKNOWN)
    lines.append(Row(text=""))
    if facts.problem is not None:
        add("Problem", facts.problem.cause, Style.TROUBLE)
        add("Next step", facts.problem.next_step or "Read the log page.", Style.TROUBLE)
        lines.append(Row(text=""))
    if facts.waits_for:
        add("Waiting for", facts.waits_for)
    elif facts.problem is None:
        add("", "This node is a member of its cluster and does its work.")
    return lines


def _bar(left: str, right: str, columns: int) -> Row:
    gap = columns - len(left) - len(right)
    text = f"{left}{' ' * gap}{right}" if gap > 0 else left
    return _fit(Row(text=text, style=Style.BAR), columns)


def _fit(row: Row, columns: int) -> Row:
    text = row.text[:columns]
    return Row(text=f"{text:<{columns}}", style=row.style)
