# SPDX-License-Identifier: Apache-2.0
"""Draws on the screen of the machine, and turns the page."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final, Protocol

from metropolis.host import Clock
from metropolis.node.console.facts import Facts
from metropolis.node.console.paint import END, paint
from metropolis.node.console.screen import Page, Row, compose
from metropolis.supervision import Context, Missed, ReadOptions
from metropolis.supervision.log_text import format_concise

PERIOD_S: Final = 0.1  # between two pictures, at least
LOOK_S: Final = 1.0  # for changed facts
WHOLE_S: Final = 10.0  # everything is drawn again this often: somebody else may have written here
_CLOCK: Final = "%Y-%m-%d %H:%M UTC"
LINES_MAX: Final = 200  # of the log, whatever the size of the screen
_TURN: Final = frozenset({b"\t", b"\n", b"\r", b" "})


class Terminal(Protocol):
    """A screen with a keyboard."""

    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    def write(self, text: str) -> None:
        """Draw; what it cannot take now is dropped."""
        ...

    def keys(self) -> AsyncGenerator[bytes, None]:
        """Yield what is typed."""
        ...


async def display(
    ctx: Context, *, terminal: Terminal, facts: Callable[[], Facts], clock: Clock
) -> None:
    """Show the status page first."""
    view = _View(terminal, facts, clock)
    reader = ctx.log_tree.read("", ReadOptions(with_children=True, backlog=LINES_MAX, stream=True))
    columns = terminal.size()[1]
    for entry in reader.backlog:
        view.add(format_concise(entry, width=columns))
    ctx.healthy()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(view.draw_for_ever())
            group.create_task(view.turn_pages())
            while True:
                item = await reader.receive()
                if isinstance(item, Missed):
                    view.add(f"({item.count} entries not shown)")
                else:
                    view.add(format_concise(item, width=terminal.size()[1]))
    finally:
        reader.close()
        terminal.write(END)


class _View:
    """What is on the screen now."""

    def __init__(self, terminal: Terminal, facts: Callable[[], Facts], clock: Clock) -> None:
        self._terminal = terminal
        self._facts = facts
        self._clock = clock
        self._page = Page.STATUS
        self._log: deque[str] = deque(maxlen=LINES_MAX)
        self._shown: Sequence[Row] = ()
        self._inputs: tuple[object, ...] = ()
        self._changed = asyncio.Event()

    def add(self, text: str) -> None:
        self._log.extend(text.split("\n"))
        if self._page is Page.LOG:
            self._changed.set()

    async def draw_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        whole_s = loop.time()
        while True:
            if loop.time() - whole_s >= WHOLE_S:
                self._shown, whole_s = (), loop.time()
            self._draw()
            self._changed.clear()
            await asyncio.sleep(PERIOD_S)
            try:
                async with asyncio.timeout(LOOK_S - PERIOD_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def turn_pages(self) -> None:
        async with aclosing(self._terminal.keys()) as keys:
            async for key in keys:
                if key in _TURN:
                    self._page = self._page.next
                    self._changed.set()

    def _draw(self) -> None:
        rows, columns = self._terminal.size()
        facts, clock = self._facts(), self._clock.wall().strftime(_CLOCK)
        inputs = (self._page, facts, rows, columns, clock)
        if self._shown and self._inputs == inputs and not self._changed.is_set():
            return  # to compose a page takes a hundred times as long as to compare
        self._inputs = inputs
        now = compose(self._page, facts, list(self._log), rows=rows, columns=columns, clock=clock)
        text = paint(self._shown, now)
        if text:
            self._terminal.write(text)
        self._shown = now
