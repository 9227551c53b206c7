# SPDX-License-Identifier: Apache-2.0
"""Feed, keys and clock drive the screen, until the operator has seen enough.

Keys are answered at once; what the cluster says is drawn at most twice an interval, however much
it is: so a slow line carries the newest state, not a queue of old ones.
"""

import asyncio
import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from metropolis.ctl.dashboard.feed import Feed
from metropolis.ctl.dashboard.keys import Key, decode
from metropolis.ctl.dashboard.layout import lay_out
from metropolis.ctl.dashboard.terminal import Terminal
from metropolis.ctl.dashboard.view import View, press, settle

_ESCAPE_S: Final = 0.05  # an ESC that nothing follows for so long is the key
_SIGNALLED: Final = 128  # exit status of a program that a signal ended: 128 + its number


class App:
    """One dashboard on one terminal. Belongs to one event loop."""

    def __init__(self, terminal: Terminal, *, interval_s: float, selected_id: str = "") -> None:
        """Prepare a page that knows nothing.

        Args:
            interval_s: Between two redraws when nothing happens.
        """
        self._terminal = terminal
        self._interval_s = interval_s
        self._view = View(selected_id=selected_id)
        self._dirty = asyncio.Event()
        self._urgent = asyncio.Event()
        self._typed = b""
        self._escape: asyncio.TimerHandle | None = None
        self._status: int | None = None
        self._over = asyncio.Event()

    async def run(self, feed: Feed) -> int:
        """Show what the feed knows until the operator quits or a signal comes.

        Returns:
            The exit status: 0, or 128 + the number of the signal.

        Raises:
            MetropolisError: what the operator must mend first.
        """
        with self._listening(feed):
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(feed.run()),
                    tasks.create_task(self._draw(feed)),
                    tasks.create_task(self._tick()),
                ]
                await self._over.wait()
                for task in running:
                    task.cancel()
        return self._status or 0

    def touch(self) -> None:
        """Something is new: draw it when it is time."""
        self._dirty.set()

    @contextmanager
    def _listening(self, feed: Feed) -> Generator[None, None, None]:
        """Hear keys, the size of the terminal, and signals that ask for the end."""
        loop = asyncio.get_running_loop()
        ends = (signal.SIGTERM, signal.SIGHUP)
        loop.add_reader(self._terminal.keyboard, self._read, feed)
        loop.add_signal_handler(signal.SIGWINCH, self._resized)
        for number in ends:
            loop.add_signal_handler(number, self._end, _SIGNALLED + number)
        try:
            yield
        finally:
            loop.remove_reader(self._terminal.keyboard)
            loop.remove_writer(self._terminal.display)
            for number in (signal.SIGWINCH, *ends):
                loop.remove_signal_handler(number)

    def _end(self, status: int) -> None:
        if self._status is None:
            self._status = status
        self._over.set()

    def _resized(self) -> None:
        self._terminal.forget()
        self._draw_now()

    def _draw_now(self) -> None:
        self._dirty.set()
        self._urgent.set()

    def _read(self, feed: Feed) -> None:
        data = self._terminal.read()
        if not data:  # the terminal hung up
            self._end(_SIGNALLED + signal.SIGHUP)
            return
        self._typed += data
        self._press(feed, is_complete=False)
        if self._escape is not None:
            self._escape.cancel()
        if self._typed:
            loop = asyncio.get_running_loop()
            self._escape = loop.call_later(_ESCAPE_S, self._finish, feed)

    def _finish(self, feed: Feed) -> None:
        self._press(feed, is_complete=True)

    def _press(self, feed: Feed, *, is_complete: bool) -> None:
        keys, self._typed = decode(self._typed, is_complete=is_complete)
        for key in keys:
            if key is Key.REDRAW:
                self._terminal.forget()
            self._view = press(self._view, key, feed.model)
        if self._view.is_over:
            self._end(0)
        elif keys:
            self._draw_now()

    async def _tick(self) -> None:
        """Let ages grow on the page."""
        while True:
            self._dirty.set()
            await asyncio.sleep(self._interval_s)

    async def _draw(self, feed: Feed) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            self._urgent.clear()
            self._view = settle(self._view, feed.model)
            await feed.select(self._view.selected_id)
            self._show(feed)
            try:
                async with asyncio.timeout(self._interval_s / 2):
                    await self._urgent.wait()
            except TimeoutError:
                pass

    def _show(self, feed: Feed) -> None:
        width, height = self._terminal.size()
        now_s = asyncio.get_running_loop().time()
        screen = lay_out(feed.model, self._view, width=width, height=height, now_s=now_s)
        try:
            is_taken = self._terminal.show(screen)
        except OSError:
            self._end(_SIGNALLED + signal.SIGHUP)
            return
        if not is_taken:  # the line is slow: the newest state is drawn when it is free again
            asyncio.get_running_loop().add_writer(self._terminal.display, self._go_on)

    def _go_on(self) -> None:
        """Write what the line did not take; then draw what has come since."""
        try:
            is_free = self._terminal.flush()
        except OSError:
            self._end(_SIGNALLED + signal.SIGHUP)
            is_free = True
        if is_free:
            asyncio.get_running_loop().remove_writer(self._terminal.display)
            self._draw_now()
