# SPDX-License-Identifier: Apache-2.0
"""Nodes and members as rows that fit a width. Pure.

Node ids shrink first: in full where there is room, else without the prefix that all of them have.
"""

from collections.abc import Sequence
from typing import Final

from metropolis.ctl.dashboard.cells import columns, fit
from metropolis.ctl.dashboard.model import ROLE_SHORT, MemberRow, NodeRow
from metropolis.ctl.dashboard.screen import Line, Span, Style, line

_PREFIX: Final = "metropolis-"
_ID_CHARS: Final = len(_PREFIX) + 32
_SHORT_CHARS: Final = 12
_ID_COLUMNS_MIN: Final = 8
_GAP: Final = "  "
_HEALTH: Final = {
    "HEALTHY": Style.GOOD,
    "UNKNOWN": Style.WARNING,
    "HEARTBEAT_TIMEOUT": Style.BAD,
}


def short_id(node_id: str) -> str:
    """Return the part of an id that is enough to tell nodes apart, and to name them."""
    return node_id.removeprefix(_PREFIX)[:_SHORT_CHARS]


def node_lines(
    nodes: Sequence[NodeRow], *, leader_id: str, selected_id: str, width: int
) -> Sequence[Line]:
    """Return a heading and a line per node."""
    if not nodes:
        return [line("  No node matches.", width=width, style=Style.DIM)]
    rows = [_node_cells(node, leader_id, are_roles_short=False) for node in nodes]
    if _ID_CHARS + _rest_columns(rows, _NODE_HEADINGS) > width:
        rows = [_node_cells(node, leader_id, are_roles_short=True) for node in nodes]
    lines, id_width = _table(_NODE_HEADINGS, rows, width=width)
    out = [line("  ", lines[0], width=width, style=Style.DIM)]
    for node, text in zip(nodes, lines[1:], strict=True):
        if node.node_id == selected_id:
            row = line("▸ ", text, width=width, style=Style.SELECTED, is_full=True)
        else:
            row = _colored(text, node, id_width=id_width, width=width)
        out.append(row)
    return out


def _colored(text: str, node: NodeRow, *, id_width: int, width: int) -> Line:
    """Colour the health, wherever it is in the text."""
    at = text.find(f"{node.health} ", id_width)
    if at < 0:
        return line("  ", text, width=width)
    end = at + len(node.health)
    style = _HEALTH.get(node.health, Style.NORMAL)
    return line("  ", text[:at], Span(text=text[at:end], style=style), text[end:], width=width)


def member_lines(members: Sequence[MemberRow], *, width: int) -> Sequence[Line]:
    """Return a heading and a line per member; errors are cut where the line ends."""
    if not members:
        return [line("  unknown", width=width, style=Style.DIM)]
    rows = [_member_cells(member) for member in members]
    is_narrow = _ID_CHARS + _rest_columns(rows, _MEMBER_HEADINGS) > width
    if is_narrow and any(member.error for member in members):  # errors need the room more
        rows = [(short_id(row[0]), *row[1:]) for row in rows]
    lines, _ = _table(_MEMBER_HEADINGS, rows, width=width)
    out = [line("  ", lines[0], width=width, style=Style.DIM)]
    for member, text in zip(members, lines[1:], strict=True):
        style = Style.NORMAL if member.is_reachable else Style.BAD
        out.append(line("  ", text, width=width, style=style))
    return out


_NODE_HEADINGS: Final = ("NODE ID", "STATE", "HEALTH", "ROLES", "ADDRESS", "HEARD", "")
_MEMBER_HEADINGS: Final = ("NODE ID", "VOTES", "REACHABLE", "RAFT", "INDEX", "ERROR")


def _node_cells(node: NodeRow, leader_id: str, *, are_roles_short: bool) -> Sequence[str]:
    roles = [ROLE_SHORT.get(role, role) if are_roles_short else role for role in node.roles]
    return (
        node.node_id,
        node.state,
        node.health,
        ",".join(roles) or "none",
        node.address or "unknown",
        node.heartbeat,
        "leader" if node.node_id == leader_id else "",
    )


def _member_cells(member: MemberRow) -> Sequence[str]:
    return (
        member.node_id,
        member.vote,
        "yes" if member.is_reachable else "NO",
        "leader" if member.is_raft_leader else "",
        str(member.raft_index or ""),
        member.error,
    )


def _rest_columns(rows: Sequence[Sequence[str]], headings: Sequence[str]) -> int:
    """Return how many columns all but the first cell take, gaps and margin included.

    Of errors only the heading counts: the end of the line cuts them.
    """
    widths = [max(map(columns, column)) for column in zip(headings, *rows, strict=True)]
    if headings[-1] == _MEMBER_HEADINGS[-1]:
        widths[-1] = columns(headings[-1])
    return len(_GAP) + sum(len(_GAP) + width for width in widths[1:])


def _table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, width: int
) -> tuple[Sequence[str], int]:
    """Return the heading and the rows as text, and the width of the ids."""
    left = width - _rest_columns(rows, headings)
    if left < _ID_CHARS:
        rows = [(row[0].removeprefix(_PREFIX), *row[1:]) for row in rows]
    longest = max(columns(row[0]) for row in rows)
    id_width = max(_ID_COLUMNS_MIN, min(left, longest))
    widths = [max(map(columns, column)) for column in zip(headings, *rows, strict=True)]
    widths[0] = id_width
    return [
        _GAP.join(fit(cell, size) for cell, size in zip(row, widths, strict=True)).rstrip()
        for row in (headings, *rows)
    ], id_width
