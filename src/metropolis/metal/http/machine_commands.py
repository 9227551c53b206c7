# SPDX-License-Identifier: Apache-2.0
"""Power, boot order and light of machines, over REST."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from metropolis.metal.http.machines import change_machine
from metropolis.metal.http.operation import Call, Nothing, Operation, Role
from metropolis.metal.model.machine import LedValue
from metropolis.metal.model.machine_request import EmptyBody, LedQuery
from metropolis.metal.model.machine_response import MachineResponse
from metropolis.metal.model.message import Command
from metropolis.metal.services import commands


def _handler(order: Command) -> Callable[[Call[EmptyBody, Nothing]], Awaitable[msgspec.Raw]]:
    async def handle(call: Call[EmptyBody, Nothing]) -> msgspec.Raw:
        machine_id = call.path["id"]
        return await change_machine(
            call, machine_id, lambda tx: commands.command(tx, machine_id, order)
        )

    return handle


def _command(name: str, order: Command, summary: str) -> Operation[Any, Any]:
    return Operation(
        id=name,
        method="POST",
        path=f"/v1/machine/{{id}}/power/{order.value.lower()}",
        role=Role.EDIT,
        summary=summary,
        handle=_handler(order),
        body=EmptyBody,
        answer=MachineResponse,
        tag="machine",
    )


def _led_handler(value: LedValue) -> Callable[[Call[EmptyBody, LedQuery]], Awaitable[msgspec.Raw]]:
    async def handle(call: Call[EmptyBody, LedQuery]) -> msgspec.Raw:
        machine_id = call.path["id"]
        return await change_machine(
            call,
            machine_id,
            lambda tx: commands.switch_led(
                tx, machine_id, value, description=call.query.description
            ),
        )

    return handle


def _led(name: str, value: LedValue, summary: str) -> Operation[Any, Any]:
    return Operation(
        id=name,
        method="POST",
        path=f"/v1/machine/{{id}}/power/chassis-identify-{value.lower()}",
        role=Role.EDIT,
        summary=summary,
        handle=_led_handler(value),
        body=EmptyBody,
        query=LedQuery,
        answer=MachineResponse,
        tag="machine",
    )


OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (
    _command("machineBios", Command.BIOS, "Boot a machine into its firmware's setup next."),
    _led("chassisIdentifyLEDOff", "LED-OFF", "Switch the light of a machine off."),
    _led("chassisIdentifyLEDOn", "LED-ON", "Switch the light of a machine on."),
    _command("machineCycle", Command.CYCLE, "Switch a machine off and on."),
    _command("machineDisk", Command.DISK, "Boot a machine from its disk next."),
    _command("machineOff", Command.OFF, "Switch a machine off."),
    _command("machineOn", Command.ON, "Switch a machine on."),
    _command("machinePxe", Command.PXE, "Boot a machine from the network next."),
    _command("machineReset", Command.RESET, "Reset a machine."),
)
