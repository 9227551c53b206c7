# SPDX-License-Identifier: Apache-2.0
"""What a keeper asks of whoever makes its machines."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from metropolis.lab.machine import Wiring
from metropolis.lab.model import Rack
from metropolis.supervision import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Cable:
    """Where a machine is plugged in.

    Attributes:
        part: Which part of the network.
        is_up: Whether the cable is in.
    """

    part: int
    is_up: bool


class Driver(Protocol):
    """Makes the machines of one rack."""

    def is_prepared(self, number: int) -> bool:
        """Whether a machine has been told what to be; before that it stays off."""
        ...

    def wiring(self, number: int, cable: Callable[[], Cable]) -> Wiring:
        """How to make a machine.

        Args:
            cable: Asked at each start.
        """
        ...

    def services(self) -> Mapping[str, Callable[[Context], Awaitable[None]]]:
        """Runnables of the rack itself, by name."""
        ...

    def readdressed(self, rack: Rack) -> None:
        """Take notice of new addresses; machines that have one are off."""
        ...
