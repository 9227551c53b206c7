# SPDX-License-Identifier: Apache-2.0
"""The clock of this machine as something that can be wrong, and set."""

from datetime import datetime
from typing import Protocol


class ClockSetting(Protocol):
    """Sets the wall clock, and asks the one that runs on a battery."""

    def hardware_time(self) -> datetime | None:
        """What the battery's clock says, aware and in UTC; None when there is none, or nonsense."""
        ...

    def set_wall(self, moment: datetime) -> None:
        """Let the wall clock jump to an aware moment.

        Raises:
            FailedPreconditionError: the kernel refuses.
        """
        ...

    def is_synchronised(self) -> bool:
        """Tell whether a program has disciplined the clock lately."""
        ...
