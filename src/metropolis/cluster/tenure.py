# SPDX-License-Identifier: Apache-2.0
"""The time during which this node leads, and the calls that belong to it.

When it ends, every call that began in it ends soon with UNAVAILABLE: a caller that watches, or
that shows that it lives, must not take a deposed leader's silence for good news.
"""

import asyncio
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from metropolis.base.errors import UnavailableError
from metropolis.cluster.state.fenced import lost_leadership

# To tell a caller takes 0.3 ms. 10,000 nodes have 20,000 calls open: all in one turn of the loop
# would take seconds, in which no lease is renewed, and the next tenure could end as this one did.
ENDED_AT_ONCE: Final = 64


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
        self._ending: deque[_Call] = deque()
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
        """End it at once, and every call in it: some in each turn of the loop."""
        if not self._is_over:
            self._is_over = True
            self._ending.extend(self._calls)
            self._end_some()

    def _end_some(self) -> None:
        ended = 0
        while self._ending and ended < ENDED_AT_ONCE:
            call = self._ending.popleft()
            if call in self._calls:
                ended += 1
                call.is_ended = True
                call.task.cancel()
        if self._ending:
            asyncio.get_running_loop().call_soon(self._end_some)
