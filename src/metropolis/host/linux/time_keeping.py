# SPDX-License-Identifier: Apache-2.0
"""Sets CLOCK_REALTIME and reads the hardware clock."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, final

from metropolis.base.errors import FailedPreconditionError
from metropolis.host.linux.kernel_figures import LinuxKernelFigures

_HARDWARE_CLOCK: Final = Path("/sys/class/rtc/rtc0/since_epoch")


@final
class LinuxClockSetting:
    """See `metropolis.host.time_keeping.ClockSetting`."""

    def __init__(self, hardware_clock: Path = _HARDWARE_CLOCK) -> None:
        self._hardware_clock = hardware_clock
        self._kernel = LinuxKernelFigures()

    def hardware_time(self) -> datetime | None:
        try:
            seconds = int(self._hardware_clock.read_text(encoding="ascii"))
            return datetime.fromtimestamp(seconds, UTC)
        except (OSError, ValueError, OverflowError):
            return None

    def set_wall(self, moment: datetime) -> None:
        try:
            time.clock_settime(time.CLOCK_REALTIME, moment.timestamp())
        except OSError as cause:
            raise FailedPreconditionError(
                f"cannot set the clock: {cause.strerror}", remedy="Run as root of the machine."
            ) from cause

    def is_synchronised(self) -> bool:
        return self._kernel.clock().is_synchronized
