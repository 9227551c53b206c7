# SPDX-License-Identifier: Apache-2.0
"""How a machine must be plugged in: into two switches of one rack, into the same ports of both."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from metropolis.base.errors import FailedPreconditionError
from metropolis.metal.model.hardware import Nic
from metropolis.metal.model.switch import PortConnection, Switch, SwitchPort, SwitchVendor
from metropolis.metal.rules.port_names import is_port_name, translate

SWITCHES_PER_MACHINE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """Where a machine is plugged in.

    Attributes:
        ports: By id of the switch, the names of its ports; sorted.
    """

    rack_id: str
    partition_id: str
    ports: Mapping[str, tuple[str, ...]]


def neighbour_names(nics: Iterable[Nic]) -> tuple[str, ...]:
    """The host names that a machine saw at the other ends, sorted."""
    return tuple(sorted({end.hostname for nic in nics for end in nic.neighbors if end.hostname}))


def find_wiring(nics: Sequence[Nic], switches: Mapping[str, Switch], machine_id: str) -> Wiring:
    """Find where a machine is plugged in and judge it.

    Args:
        nics: What the machine saw.
        switches: By host name, those that it saw and that are known.
        machine_id: Whose ports may be taken already: its own.

    Raises:
        FailedPreconditionError: it is not plugged in as it must be, saying where.
    """
    ports = _seen_ports(nics, switches)
    if len(ports) != SWITCHES_PER_MACHINE:
        seen = ", ".join(ports) or "none"
        raise FailedPreconditionError(
            f"machine {machine_id} must be connected to exactly {SWITCHES_PER_MACHINE} switches, "
            f"and is to {len(ports)}: {seen}",
            remedy="Check the cables, and that both switches are registered and send LLDP.",
        )
    (one_id, one), (other_id, other) = ((each, switches[each]) for each in ports)
    if (one.rack_id, one.partition_id) != (other.rack_id, other.partition_id):
        raise FailedPreconditionError(
            f"machine {machine_id} is connected to switches of different racks: "
            f"{one_id} in {one.rack_id}, {other_id} in {other.rack_id}",
            remedy="Plug it into both switches of one rack.",
        )
    _check_mirrored(machine_id, ports, switches)
    for switch_id, names in ports.items():
        for connection in switches[switch_id].connections:
            if connection.port in names and connection.machine_id != machine_id:
                raise FailedPreconditionError(
                    f"port {connection.port} of switch {switch_id} is connected to machine "
                    f"{connection.machine_id} already, and {machine_id} sees it, too",
                    remedy="Check the cables; delete the machine that is not there any more.",
                )
    return Wiring(rack_id=one.rack_id, partition_id=one.partition_id, ports=ports)


def _seen_ports(nics: Sequence[Nic], switches: Mapping[str, Switch]) -> dict[str, tuple[str, ...]]:
    """The ports of known switches that a machine saw, by switch, both sorted."""
    found: dict[str, set[str]] = {}
    for end in (end for nic in nics for end in nic.neighbors):
        switch = switches.get(end.hostname)
        port = port_of(end, switch) if switch is not None else None
        if port is not None:
            found.setdefault(end.hostname, set()).add(port.name)
    return {switch_id: tuple(sorted(names)) for switch_id, names in sorted(found.items())}


def port_of(end: Nic, switch: Switch) -> SwitchPort | None:
    """The port of a switch that a machine saw: by identifier, or by MAC where there is none."""
    for port in switch.ports:
        if end.identifier and end.identifier == port.identifier:
            return port
    for port in switch.ports:
        if end.mac and not end.identifier and end.mac.lower() == port.mac.lower():
            return port
    return None


def _check_mirrored(
    machine_id: str, ports: Mapping[str, tuple[str, ...]], switches: Mapping[str, Switch]
) -> None:
    (one_id, mine), (other_id, theirs) = ports.items()
    source, target = vendor_of(switches[one_id]), vendor_of(switches[other_id])
    translated: dict[str, str] = {}
    if source and target:
        names = [port.name for port in switches[one_id].ports if is_port_name(port.name, source)]
        translated = translate(names, source, target)
    mirrored = sorted(translated.get(name, name) for name in mine)
    if mirrored != sorted(theirs):
        raise FailedPreconditionError(
            f"machine {machine_id} is connected to {', '.join(mine)} of switch {one_id}, "
            f"but to {', '.join(theirs)} of switch {other_id}",
            remedy=f"Plug it into {', '.join(mirrored)} of {other_id}: ports must be mirrored.",
        )


def vendor_of(switch: Switch) -> SwitchVendor | None:
    """The vendor of a switch's system, if it is one whose port names are known."""
    return _VENDORS.get(switch.os.vendor)


_VENDORS: Mapping[str, SwitchVendor] = {"SONiC": "SONiC", "Cumulus": "Cumulus"}


def with_connections(
    switch: Switch, machine_id: str, ports: Iterable[str]
) -> tuple[PortConnection, ...]:
    """The connections of a switch after one machine is at these ports and at no others."""
    others = [each for each in switch.connections if each.machine_id != machine_id]
    mine = [PortConnection(port=port, machine_id=machine_id) for port in ports]
    return tuple(sorted([*others, *mine], key=lambda each: (each.machine_id, each.port)))
