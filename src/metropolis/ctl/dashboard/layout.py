# SPDX-License-Identifier: Apache-2.0
"""Model + view + size + time -> a screen. Pure.

header      cluster, leader, health, age; an alarm when the leader is lost
1 Nodes     4 rows at least       ┐ the pane in focus gets what it needs first,
2 Consensus 3                     │ then the others from above; below 20 rows only
3 Explain   4                     │ nodes and one more are shown, below 12 only one
4 Log       3, its newest lines   ┘
footer      keys, or the filter
"""

from collections.abc import Mapping, Sequence
from typing import Final

from metropolis.ctl.dashboard import tables
from metropolis.ctl.dashboard.cells import columns, cut, wrap
from metropolis.ctl.dashboard.model import Model, age_text
from metropolis.ctl.dashboard.screen import Line, Screen, Span, Style, line
from metropolis.ctl.dashboard.view import Pane, View, shown_nodes
from metropolis.ctl.text_table import visible

WIDTH_MIN: Final = 40
HEIGHT_MIN: Final = 8
STALE_S: Final = 15.0  # then the age is worth a warning, even without a problem
_NAME_COLUMNS_MAX: Final = 20
_HEIGHT_OF_TWO: Final = 12
_HEIGHT_OF_ALL: Final = 20
_ROWS_MIN: Final[Mapping[Pane, int]] = {
    Pane.NODES: 4,
    Pane.CONSENSUS: 3,
    Pane.EXPLAIN: 4,
    Pane.LOG: 3,
}
_KEYS: Final = " Tab 1-4 pane  j/k move  Enter explain  l log  f filter  ? help  q quit"
_HELP: Final = (
    "Tab, Shift-Tab, 1 2 3 4   go to a pane",
    "Up Down, k j              select a node; in other panes: scroll",
    "PgUp PgDn, Home End, g G  the same in large steps",
    "Enter                     explain the selected node",
    "l                         read its log",
    "f, /                      show only nodes that have some text in a column",
    "Esc                       show all nodes again",
    "Ctrl-L                    draw the page again",
    "q, Ctrl-C                 quit",
    "",
    "Votes: changes need the votes of more than half of the members that vote.",
    "Roles: cm ConsensusMember, kc KubernetesController, kw KubernetesWorker.",
    "",
    "Any key closes this.",
)


def lay_out(model: Model, view: View, *, width: int, height: int, now_s: float) -> Screen:
    """Return the whole page: at most `height` lines of at most `width` columns."""
    if width < WIDTH_MIN or height < HEIGHT_MIN:
        text = f"The terminal is too small: {WIDTH_MIN}x{HEIGHT_MIN} at least; q quits."
        return [line(part, width=width) for part in wrap(text, max(width, 1))][:height]
    body = _help(width) if view.is_help else _panes(model, view, width=width, rows=height - 2)
    body = list(body)[: height - 2]
    body += [()] * (height - 2 - len(body))
    return [_header(model, width=width, now_s=now_s), *body, _footer(view, width=width)]


def _header(model: Model, *, width: int, now_s: float) -> Line:
    age_s = None if model.taken_s is None else now_s - model.taken_s
    age = "" if age_s is None else age_text(age_s)
    name = f" {cut(model.cluster, _NAME_COLUMNS_MAX)}  "
    if model.problem:
        since = f"what is shown is {age} old" if age else "nothing is known yet"
        text = f"NO LEADER ANSWERS: {since} ({model.problem})"
        return line(name, text, width=width, style=Style.ALARM, is_full=True)
    if age_s is None:
        return line(name, "asking the cluster …", width=width, style=Style.HEADER, is_full=True)
    healthy = sum(node.health == "HEALTHY" for node in model.nodes)
    texts = [f"leader {_leader(model)}", f"{healthy} of {len(model.nodes)} healthy"]
    left = f"{name}{'   '.join(texts)}"
    right = f"{age} ago "
    gap = width - columns(left) - columns(right)
    style = Style.ALARM if age_s > STALE_S else Style.HEADER
    return line(left, " " * max(gap, 1), right, width=width, style=style, is_full=True)


def _leader(model: Model) -> str:
    node = next((node for node in model.nodes if node.node_id == model.leader_id), None)
    short = tables.short_id(model.leader_id) or "unknown"
    return f"{short} at {node.address}" if node is not None and node.address else short


def _footer(view: View, *, width: int) -> Line:
    if view.is_typing:
        return line(
            " filter: ", Span(text=f"{view.filter_text}_", style=Style.FOCUS),
            "   Enter keeps it, Esc drops it", width=width,
        )  # fmt: skip
    if view.filter_text:
        shown = Span(text=view.filter_text, style=Style.FOCUS)
        return line(" filter: ", shown, "   Esc shows all nodes  ? help  q quit", width=width)
    return line(_KEYS, width=width, style=Style.DIM)


def _help(width: int) -> Sequence[Line]:
    return [(), *(line("  ", text, width=width) for text in _HELP)]


def _panes(model: Model, view: View, *, width: int, rows: int) -> Sequence[Line]:
    panes = _shown_panes(view.pane, height=rows + 2)
    contents = {pane: _content(pane, model, view, width=width) for pane in panes}
    wants = {pane: len(content) for pane, content in contents.items()}
    shares = share(rows - len(panes), wants, focus=view.pane)
    lines: list[Line] = []
    for pane in panes:
        lines.append(_title(pane, model, view, width=width))
        lines += _window(pane, contents[pane], model, view, rows=shares[pane])
    return lines


def _shown_panes(focus: Pane, *, height: int) -> Sequence[Pane]:
    if height >= _HEIGHT_OF_ALL:
        return tuple(Pane)
    if height < _HEIGHT_OF_TWO:
        return (focus,)
    return (Pane.NODES, Pane.EXPLAIN if focus is Pane.NODES else focus)


def share(rows: int, wants: Mapping[Pane, int], *, focus: Pane) -> Mapping[Pane, int]:
    """Divide rows among panes; the sum is never more than `rows`."""
    shares: dict[Pane, int] = {}
    for pane, want in wants.items():
        least = min(want, _ROWS_MIN[pane], rows - sum(shares.values()))
        shares[pane] = max(least, 0)
    for pane in (focus, *wants):
        left = rows - sum(shares.values())
        shares[pane] += min(left, wants[pane] - shares[pane])
    return shares


def _title(pane: Pane, model: Model, view: View, *, width: int) -> Line:
    is_focus = pane is view.pane
    style = Style.FOCUS if is_focus else Style.TITLE
    rule = "═" if is_focus else "─"
    selected = tables.short_id(view.selected_id)
    match pane:
        case Pane.NODES:
            shown, count = len(shown_nodes(model, view)), len(model.nodes)
            name = f"Nodes: {count}" if shown == count else f"Nodes: {shown} of {count}"
        case Pane.CONSENSUS:
            name = f"Consensus: {model.summary}" if model.summary else "Consensus"
        case Pane.EXPLAIN:
            name = f"Explain {selected}"
        case _:
            back = view.back.get(Pane.LOG, 0)
            name = (f"Log of {selected}" if selected else "Log") + (
                f", {back} lines back" if back else ""
            )
    text = f"{rule}{rule} {int(pane)} {name.strip()} "
    return line(text, rule * max(width - columns(text), 0), width=width, style=style)


def _content(pane: Pane, model: Model, view: View, *, width: int) -> Sequence[Line]:
    if model.taken_s is None and pane in (Pane.NODES, Pane.CONSENSUS):
        return [line("  asking …", width=width, style=Style.DIM)]
    match pane:
        case Pane.NODES:
            shown = shown_nodes(model, view)
            return tables.node_lines(
                shown, leader_id=model.leader_id, selected_id=view.selected_id, width=width
            )
        case Pane.CONSENSUS:
            return tables.member_lines(model.members, width=width)
        case Pane.EXPLAIN:
            return _explanation(model, view, width=width)
        case Pane.LOG:
            return _log(model, view, width=width)


def _explanation(model: Model, view: View, *, width: int) -> Sequence[Line]:
    if not view.selected_id:
        return []
    if model.explained_id != view.selected_id:
        return [line("  asking …", width=width, style=Style.DIM)]
    lines: list[Line] = []
    for text in model.explanation:
        if not text.strip():
            continue  # what separates paragraphs elsewhere: rows are dear here
        style = Style.NORMAL
        if text.startswith("error:"):
            style = Style.BAD
        elif text.startswith("warning:"):
            style = Style.WARNING
        parts = wrap(f"  {visible(text)}", width, indent="    ")
        lines += [line(part, width=width, style=style) for part in parts]
    return lines


def _log(model: Model, view: View, *, width: int) -> Sequence[Line]:
    if not view.selected_id:
        return []
    if model.logged_id != view.selected_id:
        return [line("  asking …", width=width, style=Style.DIM)]
    if view.pane is not Pane.LOG:
        return [line(text, width=width) for text in model.log]
    return [
        line(part, width=width)
        for text in model.log
        for part in wrap(visible(text), width, indent="    ")
    ]


def _window(
    pane: Pane, content: Sequence[Line], model: Model, view: View, *, rows: int
) -> Sequence[Line]:
    """Return the part of a pane that is to be seen, `rows` lines at most."""
    if len(content) <= rows:
        return content
    back = view.back.get(pane, 0)
    match pane:
        case Pane.LOG:
            stop = max(len(content) - back, rows)
            return content[stop - rows : stop]
        case Pane.NODES:
            ids = [node.node_id for node in shown_nodes(model, view)]
            chosen = ids.index(view.selected_id) if view.selected_id in ids else 0
            body, seen = content[1:], max(rows - 1, 0)
            start = max(0, min(chosen - seen // 2, len(body) - seen))
            return [content[0], *body[start : start + seen]][:rows]
        case _:
            start = min(back, len(content) - rows)
            return content[start : start + rows]
