# SPDX-License-Identifier: Apache-2.0
"""Which device is which interface of a configuration. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metropolis.host.network import Link
from metropolis.node.network.configuration import DeviceMatch, NetworkConfiguration


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Devices found, and a few words on each that is missing, both by interface."""

    found: Mapping[str, int]
    missing: Mapping[str, str]


def assign_devices(
    configuration: NetworkConfiguration, devices: Sequence[Link], before: Mapping[str, int]
) -> Assignment:
    """Find the devices of a configuration.

    Args:
        devices: In the order of the bus.
        before: What was assigned earlier: it stays, as long as the device is there.
    """
    found: dict[str, int] = {}
    missing: dict[str, str] = {}
    present = {each.index for each in devices}
    for interface in configuration.interfaces:
        match = interface.kind
        if not isinstance(match, DeviceMatch):
            continue
        index = before.get(interface.name)
        if index not in present:
            index = _find(match, devices)
        owner = next((name for name, other in found.items() if other == index), None)
        if index is None:
            missing[interface.name] = f"a device for interface {interface.name} ({match})"
        elif owner is not None:
            missing[interface.name] = (
                f"a device for interface {interface.name} ({match}) that is not {owner}'s"
            )
        else:
            found[interface.name] = index
    return Assignment(found=found, missing=missing)


def _find(match: DeviceMatch, devices: Sequence[Link]) -> int | None:
    matching = [
        each.index
        for each in devices
        if match.hardware_address in {None, _maker_address(each)}
        and match.driver in {None, each.driver}
    ]
    return matching[match.position] if match.position < len(matching) else None


def _maker_address(link: Link) -> bytes:
    """What a device cannot change; in a bond it uses the address of another."""
    return link.permanent_hardware_address or link.hardware_address
