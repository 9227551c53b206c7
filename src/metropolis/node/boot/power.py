# SPDX-License-Identifier: Apache-2.0
"""Who asks for this machine's end is heard once; everything stops before it ends."""

import asyncio
from dataclasses import dataclass
from typing import Final

from metropolis.base.errors import UnimplementedError
from metropolis.node.boot.ending import Ending
from metropolis.node.management.power import NextBoot
from metropolis.node.slots.firmware import SlotKeeper
from metropolis.supervision import Value

ANSWER_S: Final = 1.0  # whoever asked hears the answer before the connection goes


@dataclass(frozen=True, slots=True, kw_only=True)
class Farewell:
    """How and why this machine ends."""

    ending: Ending
    reason: str


class OrderlyPower:
    """`MachinePower` of a real machine."""

    def __init__(self, slots: SlotKeeper | None) -> None:
        self._farewell: Value[Farewell | None] = Value(None)
        self._slots = slots
        self.uses_tpm = False

    async def choose_next_boot(self, choice: NextBoot) -> None:
        """Have the firmware start this next time.

        Raises:
            FailedPreconditionError: there is no other system.
            UnimplementedError: the firmware cannot.
        """
        if choice is NextBoot.NORMAL:
            return
        if self._slots is None:
            raise UnimplementedError(
                f"cannot start {choice.value} next: no firmware entry started this system",
                remedy="Choose it in the firmware's menu.",
            )
        tell = (
            self._slots.try_other if choice is NextBoot.ROLLBACK else self._slots.show_set_up_screen
        )
        await asyncio.get_running_loop().run_in_executor(None, tell)

    def end(self, *, is_power_off: bool, reason: str) -> None:
        """Ask for the end; the first who does decides how."""
        if self._farewell.current is None:
            ending = Ending.POWER_OFF if is_power_off else Ending.RESTART
            self._farewell.set(Farewell(ending=ending, reason=reason))

    async def wait_farewell(self) -> Farewell:
        """Wait until somebody asks, and a moment longer."""
        farewell = await self._farewell.wait_for(lambda found: found is not None)
        assert farewell is not None
        await asyncio.sleep(ANSWER_S)
        return farewell
