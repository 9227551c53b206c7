# SPDX-License-Identifier: Apache-2.0
"""Which machine is plugged in where, and the VRF of its ports."""

from collections.abc import Sequence

import msgspec

from metropolis.base.errors import FailedPreconditionError
from metropolis.metal.model.hardware import Nic
from metropolis.metal.model.switch import SWITCHES, Switch
from metropolis.metal.rules.connections import find_wiring, neighbour_names, with_connections
from metropolis.metal.store import Reader, Stored, Transaction


async def connect_machine(tx: Transaction, machine_id: str, nics: Sequence[Nic]) -> str:
    """Remember where a machine is plugged in, as it saw it, and return the rack's id.

    Raises:
        FailedPreconditionError: it is not at mirrored ports of exactly two switches of one rack,
            or a port is another machine's, or it is not any more where it was.
    """
    seen = await _seen_switches(tx, neighbour_names(nics))
    wiring = find_wiring(nics, {name: each.value for name, each in seen.items()}, machine_id)
    wired = {seen[name].id: ports for name, ports in wiring.ports.items()}
    for switch in await connected_switches(tx, machine_id):
        before = {each.port for each in switch.value.connections if each.machine_id == machine_id}
        gone = sorted(before - set(wired.get(switch.id, ())))
        if gone:
            raise FailedPreconditionError(
                f"machine {machine_id} was connected to {', '.join(gone)} of switch {switch.id}, "
                "where it is not seen any more",
                remedy="Plug it in where it was, or delete the machine and let it register anew.",
            )
    for name, ports in wiring.ports.items():
        switch = seen[name]
        connections = with_connections(switch.value, machine_id, ports)
        if connections != switch.value.connections:
            await tx.replace(switch, msgspec.structs.replace(switch.value, connections=connections))
    return wiring.rack_id


async def _seen_switches(reader: Reader, names: Sequence[str]) -> dict[str, Stored[Switch]]:
    """The known switches among host names: a switch has the id that its host is called."""
    found: dict[str, Stored[Switch]] = {}
    for name in names:
        switch = await reader.lookup(SWITCHES, name)
        if switch is None:
            named = await reader.find(SWITCHES, {"name": name}, limit=2)
            switch = named[0] if len(named) == 1 else None
        if switch is not None and switch.id not in {each.id for each in found.values()}:
            found[name] = switch
    return found


async def connected_switches(reader: Reader, machine_id: str) -> list[Stored[Switch]]:
    """The switches that a machine is plugged into."""
    return await reader.find(SWITCHES, {"machine": machine_id})


async def disconnect_machine(tx: Transaction, machine_id: str) -> None:
    """Forget where a machine was plugged in; its ports are as if nothing ever was there."""
    for switch in await connected_switches(tx, machine_id):
        await tx.replace(
            switch,
            msgspec.structs.replace(
                _with_vrf(switch.value, machine_id, ""),
                connections=with_connections(switch.value, machine_id, ()),
            ),
        )


async def set_machine_vrf(tx: Transaction, machine_id: str, vrf: str) -> None:
    """Put the ports of a machine into a VRF: `vrf<number>`, `default`, or empty to boot by PXE."""
    for switch in await connected_switches(tx, machine_id):
        changed = _with_vrf(switch.value, machine_id, vrf)
        if changed != switch.value:
            await tx.replace(switch, changed)


def _with_vrf(switch: Switch, machine_id: str, vrf: str) -> Switch:
    mine = {each.port for each in switch.connections if each.machine_id == machine_id}
    return msgspec.structs.replace(
        switch,
        ports=tuple(
            msgspec.structs.replace(port, vrf=vrf) if port.name in mine else port
            for port in switch.ports
        ),
    )
