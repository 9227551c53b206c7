# SPDX-License-Identifier: Apache-2.0
"""The time during which this node leads, and the calls that belong to it.

When it ends, every call that began in it ends at once with UNAVAILABLE: a caller that watches, or
that shows that it lives, must not take a deposed leader's silence for good news.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from metropolis.base.errors import UnavailableError
from metropolis.cluster.state.fenced import lost_leadership


@dataclass(slots=True, kw_only=True, eq=False)
class _Call:
    """A task that runs within the tenure. `cancelling`: requests it had before it began."""

    task: asyncio.Task[Any]
    cancelling: int
    is_ended: bool = False


class Tenure:
    """One tenure. Ended once, for ever."""

    def __init__(self) -> None:
        self._calls: dict[_Call, None] = {}
        self._is_over = False

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._is_over

    @contextmanager
    def bound(self) -> Generator[None, None, None]:
        """Run the block as part of the tenure; works like `asyncio.timeout`.

        Raises:
            NotLeaderError: the tenure has ended; nothing was done.
            UnavailableError: it ends before the block does, whose write may have been on its way.
                Never NotLeaderError here: callers repeat at once what that error ends.
        """
        if self._is_over:
            raise lost_leadership()
        task = asyncio.current_task()
        assert task is not None, "calls run in tasks"
        call = _Call(task=task, cancelling=task.cancelling())
        self._calls[call] = None
        try:
            yield
        except asyncio.CancelledError:
            if call.is_ended and task.uncancel() <= call.cancelling:
                raise UnavailableError(
                    "leadership was lost during the call, which may or may not have taken effect",
                    remedy="Look at what it was to change, and repeat it if that did not happen.",
                ) from None
            raise
        finally:
            del self._calls[call]

    def end(self) -> None:
        """End it, and every call in it."""
        self._is_over = True
        for call in list(self._calls):
            if not call.is_ended:
                call.is_ended = True
                call.task.cancel()
