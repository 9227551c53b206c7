# SPDX-License-Identifier: Apache-2.0
"""A clock that reads the running loop, and can be wrong."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final, final

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)  # wall time when the loop's time is 0
EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
LATEST: Final = datetime.max.replace(tzinfo=UTC)


@final
class SimClock:
    """Monotonic time is the loop's; wall time is `epoch` plus that, drifting and stepping."""

    def __init__(self, *, epoch: datetime = EPOCH) -> None:
        self._base = epoch
        self._base_monotonic_s = 0.0
        self._rate = 1.0

    def monotonic_s(self) -> float:
        """Seconds of the running loop; no step and no drift changes them."""
        return asyncio.get_running_loop().time()

    def wall(self) -> datetime:
        """Aware UTC; stops at the ends of the calendar instead of failing there."""
        elapsed_s = (self.monotonic_s() - self._base_monotonic_s) * self._rate
        return _shifted(self._base, elapsed_s)

    def step(self, seconds: float) -> None:
        """Let wall time jump, forward or back, as NTP or an operator does."""
        self._rebase()
        self._base = _shifted(self._base, seconds)

    def set(self, wall: datetime) -> None:
        """Set wall time."""
        self._rebase()
        self._base = wall

    def set_drift(self, parts_per_million: float) -> None:
        """Let wall time run too fast (positive) or too slow from now on."""
        self._rebase()
        self._rate = 1.0 + parts_per_million / 1e6

    def _rebase(self) -> None:
        self._base = self.wall()
        self._base_monotonic_s = self.monotonic_s()


def _shifted(moment: datetime, seconds: float) -> datetime:
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:
        return LATEST if seconds > 0 else EARLIEST
