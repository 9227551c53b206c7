# SPDX-License-Identifier: Apache-2.0
"""How long to wait before trying again."""

from random import Random
from typing import Final

FIRST_S: Final = 0.5
FACTOR: Final = 1.5
SPREAD: Final = 0.5  # of each wait, either way, so that those who failed together do not return so
CAP_S: Final = 10.0


class Backoff:
    """Waits of 0.5 s, then half as long again each time, at most `cap_s`, all +- 50 %."""

    def __init__(self, rng: Random, *, cap_s: float = CAP_S) -> None:
        self._rng = rng
        self._cap_s = cap_s
        self._next_s = FIRST_S

    def next_s(self) -> float:
        """Return the next wait."""
        middle_s, self._next_s = self._next_s, min(self._next_s * FACTOR, self._cap_s)
        return middle_s * self._rng.uniform(1 - SPREAD, 1 + SPREAD)

    def reset(self) -> None:
        """Something worked: begin anew."""
        self._next_s = FIRST_S
