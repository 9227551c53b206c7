# SPDX-License-Identifier: Apache-2.0
"""What becomes of a switch's ports when it registers, takes another's place, or is replaced."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from metropolis.metal.model.hardware import Nic
from metropolis.metal.model.switch import (
    AdminStatus,
    PortConnection,
    PortStatus,
    Switch,
    SwitchMode,
    SwitchNic,
    SwitchOS,
    SwitchOSRequest,
    SwitchPort,
)
from metropolis.metal.rules.connections import port_of, vendor_of
from metropolis.metal.rules.port_names import is_port_name, translate


def mode_of(text: str | None) -> SwitchMode:
    """The mode that is meant; whatever is not `replace` is `operational`."""
    return "replace" if text == "replace" else "operational"


def os_of(request: SwitchOSRequest | None, old: SwitchOS) -> SwitchOS:
    """What runs on a switch; absent fields stay."""
    if request is None:
        return old
    return SwitchOS(
        vendor=old.vendor if request.vendor is None else request.vendor,
        version=old.version if request.version is None else request.version,
        metal_core_version=old.metal_core_version
        if request.metal_core_version is None
        else request.metal_core_version,
    )


def ports_of(nics: Sequence[SwitchNic]) -> tuple[SwitchPort, ...]:
    """The ports that a switch says it has, by name.

    Raises:
        InvalidArgumentError: a port has no name, or shares its name or its key with another.
    """
    ports = [
        SwitchPort(
            name=nic.name,
            identifier=nic.identifier,
            mac=nic.mac.lower(),
            vrf=nic.vrf or "",
            admin_status=nic.admin_status or "",
        )
        for nic in nics
    ]
    for field, values in (
        ("name", [port.name for port in ports]),
        ("identifier", [port.key for port in ports]),
    ):
        for value, count in Counter(values).items():
            if not value or count > 1:
                raise InvalidArgumentError(
                    f"nics: {field} {value[:80]!r} "
                    + ("is used by more than one port" if value else "is empty"),
                    remedy="Give each port a name and an identifier (or MAC) of its own.",
                )
    return tuple(sorted(ports, key=lambda port: port.name))


def merge_ports(switch: Switch, ports: Sequence[SwitchPort]) -> tuple[SwitchPort, ...]:
    """The ports of a switch that registers again: as it says, with what was decided about them.

    Raises:
        FailedPreconditionError: a port to which a machine is connected is gone or renamed.
    """
    old = {port.key: port for port in switch.ports}
    new = {port.key: port for port in ports}
    machines = {each.port: each.machine_id for each in switch.connections}
    for key, port in old.items():
        if port.name not in machines:
            continue
        if key not in new or new[key].name != port.name:
            what = f"is called {new[key].name} now" if key in new else "is gone"
            raise FailedPreconditionError(
                f"nics: port {port.name} ({key}) {what}, and machine {machines[port.name]} is "
                "connected to it",
                remedy="Set the switch's mode to replace if it is another one, or delete the "
                "machine first.",
            )
    return tuple(
        msgspec.structs.replace(
            port,
            vrf=old[port.key].vrf,
            admin_status=old[port.key].admin_status or port.admin_status,
        )
        if port.key in old
        else msgspec.structs.replace(port, vrf="")
        for port in ports
    )


def names_on(source: Switch, target: Switch) -> dict[str, str]:
    """What the ports of one switch are called on another; what no vendor names keeps its name.

    Raises:
        FailedPreconditionError: the vendors differ and one is not known.
    """
    names = [port.name for port in source.ports]
    if source.os.vendor == target.os.vendor:
        return {name: name for name in names}
    from_vendor, to_vendor = vendor_of(source), vendor_of(target)
    if from_vendor is None or to_vendor is None:
        raise FailedPreconditionError(
            f"os: ports of {source.os.vendor or 'an unknown system'} cannot be compared with those "
            f"of {target.os.vendor or 'an unknown system'}",
            remedy="Let both switches register with the vendor of their system.",
        )
    known = [name for name in names if is_port_name(name, from_vendor)]
    return {name: name for name in names} | translate(known, from_vendor, to_vendor)


def take_over(source: Switch, source_id: str, target: Switch, *, every_port: bool) -> Switch:
    """A switch with the VRFs and connections of another, at the ports that mean the same.

    Args:
        every_port: It must have all ports of the other, not only those that are connected.

    Raises:
        FailedPreconditionError: it lacks a port, naming it.
    """
    names = names_on(source, target)
    connected = {each.port for each in source.connections}
    has = {port.name for port in target.ports}
    missing = sorted(
        names[port.name]
        for port in source.ports
        if (every_port or port.name in connected) and names[port.name] not in has
    )
    if missing:
        raise FailedPreconditionError(
            f"nics: port {missing[0]} is missing, which switch {source_id} has"
            + (f", and {len(missing) - 1} more" if len(missing) > 1 else ""),
            remedy="Use a switch (or break out its ports) with all ports of the other.",
        )
    decided = {names[port.name]: port for port in source.ports}
    return msgspec.structs.replace(
        target,
        ports=tuple(
            msgspec.structs.replace(
                port, vrf=decided[port.name].vrf, admin_status=decided[port.name].admin_status
            )
            if port.name in decided
            else msgspec.structs.replace(port, vrf="")
            for port in target.ports
        ),
        connections=tuple(
            PortConnection(port=names[each.port], machine_id=each.machine_id)
            for each in source.connections
        ),
    )


def emptied(switch: Switch) -> Switch:
    """A switch to which nothing is connected any more."""
    return msgspec.structs.replace(
        switch,
        connections=(),
        ports=tuple(msgspec.structs.replace(port, vrf="") for port in switch.ports),
    )


def rewritten_nics(
    nics: Iterable[Nic], old: Switch, old_names: Sequence[str], new: Switch, new_name: str
) -> tuple[Nic, ...]:
    """What a machine would see after a switch took the place of another.

    Args:
        old_names: What the replaced switch is called in what the machine saw.
        new_name: What the new one is called.
    """
    names = names_on(old, new)
    ports = {port.name: port for port in new.ports}

    def other_end(end: Nic) -> Nic:
        seen = port_of(end, old) if end.hostname in old_names else None
        port = ports.get(names[seen.name]) if seen is not None else None
        if port is None:
            return end
        return msgspec.structs.replace(
            end, name=port.name, identifier=port.identifier, mac=port.mac, hostname=new_name
        )

    return tuple(
        msgspec.structs.replace(nic, neighbors=tuple(other_end(end) for end in nic.neighbors))
        for nic in nics
    )


def connected_port(switch: Switch, switch_id: str, name: str) -> SwitchPort:
    """The port of this name, in whatever case, that a machine is connected to.

    Raises:
        NotFoundError: there is no such port.
        InvalidArgumentError: no machine is connected to it.
    """
    for port in switch.ports:
        if port.name.lower() == name.lower():
            if port.name not in {each.port for each in switch.connections}:
                raise InvalidArgumentError(
                    f"nic: no machine is connected to port {port.name} of switch {switch_id}",
                    remedy="Choose a port with a machine; the others are the switch's own affair.",
                )
            return port
    raise NotFoundError(
        f"nic: switch {switch_id} has no port {name[:80]!r}",
        remedy="Look at the switch for the names of its ports.",
    )


def pending_after(
    pending: Mapping[str, AdminStatus], reported: Mapping[str, PortStatus]
) -> dict[str, AdminStatus]:
    """Of the statuses that were asked for, those that were not reported yet."""
    return {name: status for name, status in pending.items() if reported.get(name) != status}
