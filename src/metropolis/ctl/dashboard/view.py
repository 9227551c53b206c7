# SPDX-License-Identifier: Apache-2.0
"""What the operator looks at, and how keys change it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final

from metropolis.ctl.dashboard.keys import Char, Key, KeyPress
from metropolis.ctl.dashboard.model import Model, NodeRow, worst_node

FILTER_CHARS_MAX: Final = 64
_PAGE_LINES: Final = 10


class Pane(IntEnum):
    """The panes, by the digit that selects them."""

    NODES = 1
    CONSENSUS = 2
    EXPLAIN = 3
    LOG = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the operator chose.

    Attributes:
        selected_id: Of the node that explanation and log are of; empty: none yet.
        filter_text: Only nodes that have it in some word.
        is_typing: Whether letters go into the filter.
        typed_over: The filter before typing, for Escape.
        back: Lines scrolled from where a pane begins to be read: its top; of the log, its end.
        is_over: Whether to quit.
    """

    pane: Pane = Pane.NODES
    selected_id: str = ""
    filter_text: str = ""
    is_typing: bool = False
    typed_over: str = ""
    is_help: bool = False
    back: Mapping[Pane, int] = field(default_factory=dict[Pane, int])
    is_over: bool = False


def shown_nodes(model: Model, view: View) -> Sequence[NodeRow]:
    """Return the nodes that the filter lets through."""
    return [node for node in model.nodes if node.matches(view.filter_text)]


def settle(view: View, model: Model) -> View:
    """Return the view with a selection that exists, as far as any node does.

    A selected node that vanished, or is filtered out, gives way to the one to look at first.
    """
    shown = shown_nodes(model, view)
    if any(node.node_id == view.selected_id for node in shown):
        return view
    first = worst_node(shown)
    if first == view.selected_id or not first:
        return view
    return replace(view, selected_id=first, back={})


def press(view: View, key: KeyPress, model: Model) -> View:
    """Return the view after a key."""
    if key is Key.INTERRUPT:
        return replace(view, is_over=True)
    if view.is_typing:
        return settle(_type(view, key), model)
    if view.is_help:
        is_quit = key == Char(text="q")
        return replace(view, is_help=False, is_over=is_quit)
    if isinstance(key, Char):
        return _press_char(view, key.text, model)
    return _press_key(view, key, model)


def _type(view: View, key: KeyPress) -> View:
    if isinstance(key, Char):
        return replace(view, filter_text=(view.filter_text + key.text)[:FILTER_CHARS_MAX])
    if key is Key.BACKSPACE:
        return replace(view, filter_text=view.filter_text[:-1])
    if key is Key.ENTER:
        return replace(view, is_typing=False)
    if key is Key.ESCAPE:
        return replace(view, is_typing=False, filter_text=view.typed_over)
    return view


def _press_char(view: View, char: str, model: Model) -> View:
    match char:
        case "q":
            return replace(view, is_over=True)
        case "?" | "h":
            return replace(view, is_help=True)
        case "1" | "2" | "3" | "4":
            return replace(view, pane=Pane(int(char)))
        case "l":
            return replace(view, pane=Pane.LOG)
        case "f" | "/":
            return replace(view, is_typing=True, typed_over=view.filter_text, pane=Pane.NODES)
        case "j":
            return _move(view, 1, model)
        case "k":
            return _move(view, -1, model)
        case "g":
            return _move(view, -len(model.nodes) - 1, model, to_end=True)
        case "G":
            return _move(view, len(model.nodes) + 1, model, to_end=True)
        case _:
            return view


def _press_key(view: View, key: Key, model: Model) -> View:
    steps = {Key.UP: -1, Key.DOWN: 1, Key.PAGE_UP: -_PAGE_LINES, Key.PAGE_DOWN: _PAGE_LINES}
    if key in steps:
        return _move(view, steps[key], model)
    match key:
        case Key.TAB:
            return replace(view, pane=Pane(view.pane % len(Pane) + 1))
        case Key.BACK_TAB:
            return replace(view, pane=Pane((view.pane - 2) % len(Pane) + 1))
        case Key.ENTER:
            return replace(view, pane=Pane.EXPLAIN)
        case Key.ESCAPE:
            return settle(replace(view, pane=Pane.NODES, filter_text=""), model)
        case Key.HOME:
            return _move(view, -len(model.nodes) - 1, model, to_end=True)
        case Key.END:
            return _move(view, len(model.nodes) + 1, model, to_end=True)
        case _:
            return view


def _move(view: View, lines: int, model: Model, *, to_end: bool = False) -> View:
    """Move the selection, or scroll the pane that has no selection."""
    if view.pane is Pane.NODES:
        shown = shown_nodes(model, view)
        if not shown:
            return view
        ids = [node.node_id for node in shown]
        now = ids.index(view.selected_id) if view.selected_id in ids else 0
        wanted = ids[max(0, min(len(ids) - 1, now + lines))]
        return view if wanted == view.selected_id else replace(view, selected_id=wanted, back={})
    count = {
        Pane.CONSENSUS: len(model.members),
        Pane.EXPLAIN: len(model.explanation),
        Pane.LOG: len(model.log),
    }[view.pane]
    if view.pane is Pane.LOG:
        lines = -lines  # its end is what is read first
    limit = max(0, count - 1)
    now = view.back.get(view.pane, 0)
    moved = (limit if lines > 0 else 0) if to_end else max(0, min(limit, now + lines))
    return replace(view, back={**view.back, view.pane: moved})
