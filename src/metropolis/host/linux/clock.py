# SPDX-License-Identifier: Apache-2.0
"""The kernel's clocks."""

import time
from datetime import UTC, datetime
from typing import final


@final
class LinuxClock:
    """CLOCK_MONOTONIC for durations, CLOCK_REALTIME for people."""

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        return time.monotonic()

    def wall(self) -> datetime:
        """Aware UTC; steps when somebody sets the clock."""
        return datetime.now(UTC)
