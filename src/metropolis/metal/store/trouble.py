# SPDX-License-Identifier: Apache-2.0
"""That a database did not keep a change, remembered for a while.

A disk that is full takes small changes again and again in between, so the last success tells
nothing; and nobody who looks now and then would catch the moment.
"""

from datetime import timedelta
from typing import Final, final

from metropolis.host import Clock

REMEMBERED: Final = timedelta(minutes=5)


@final
class Trouble:
    """The last change that was not kept."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._text = ""
        self._until = clock.wall()

    def tell(self, text: str) -> None:
        """Remember why a change was not kept."""
        self._text = text
        self._until = self._clock.wall() + REMEMBERED

    @property
    def text(self) -> str:
        """Why a change was not kept lately; empty when all were."""
        return self._text if self._clock.wall() < self._until else ""
