# SPDX-License-Identifier: Apache-2.0
"""The BMC agent of a simulated partition: does what messages say to the machines that it has."""

import hmac
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from metropolis.api import metal_messages_pb2 as pb
from metropolis.metal.model.message import Command, EventType
from metropolis.metal.simulated.machine import BootTarget, SimulatedMachine

LOG: Final = logging.getLogger("metropolis.metal.simulated")


def _cycle(machine: SimulatedMachine) -> None:
    machine.switch_on()
    machine.reset()


def _boot_from(target: BootTarget) -> Callable[[SimulatedMachine], None]:
    def set_target(machine: SimulatedMachine) -> None:
        machine.boot_target = target

    return set_target


def _light(*, is_lit: bool) -> Callable[[SimulatedMachine], None]:
    def switch(machine: SimulatedMachine) -> None:
        machine.is_lit = is_lit

    return switch


_PXE: Final = _boot_from(BootTarget.PXE)
_DISK: Final = _boot_from(BootTarget.DISK)
_COMMANDS: Final[Mapping[str, tuple[Callable[[SimulatedMachine], None], ...]]] = {
    Command.ON: (SimulatedMachine.switch_on,),
    Command.OFF: (SimulatedMachine.switch_off,),
    Command.RESET: (SimulatedMachine.reset,),
    Command.CYCLE: (_cycle,),
    Command.PXE: (_PXE,),
    Command.DISK: (_DISK,),
    Command.REINSTALL: (_PXE, _cycle),
    Command.LED_ON: (_light(is_lit=True),),
    Command.LED_OFF: (_light(is_lit=False),),
    Command.BIOS: (),
    Command.UPDATE_FIRMWARE: (),
}


class BmcAgent:
    """Handles messages, for `Subscribing`; what its BMCs refuse is counted and left.

    Attributes:
        refused: How many commands came without the password of the BMC.
    """

    def __init__(self, machines: Iterable[SimulatedMachine]) -> None:
        self._machines = {each.machine_id: each for each in machines}
        self.refused = 0

    async def __call__(self, message: pb.SubscribeResponse) -> None:
        """Do one message."""
        event: dict[str, Any] = msgspec.json.decode(message.payload)
        command: dict[str, Any] = event.get("cmd") or {}
        machine = self._machines.get(command.get("target", ""))
        if machine is None:
            return  # one without a simulation, or not known here
        password = command.get("ipmi", {}).get("password", "")
        if not hmac.compare_digest(password, machine.blueprint.bmc_password):
            self.refused += 1
            LOG.warning("the BMC of %s refuses a command", machine.machine_id)
            return
        if event["type"] == EventType.DELETE:
            _PXE(machine)
            machine.reset()
        elif event["type"] == EventType.CREATE:
            _DISK(machine)
        else:
            for step in _COMMANDS[command["cmd"]]:
                step(machine)
