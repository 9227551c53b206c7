# SPDX-License-Identifier: Apache-2.0
"""Reads the bond of a network configuration into the kernel's numbers.

Source: linux/if_bonding.h; kernel Documentation/networking/bonding.rst
"""

import re
from dataclasses import replace
from typing import Final

from metropolis.api import net_pb2
from metropolis.host.network import BondSettings
from metropolis.node.network.configuration import BondOf
from metropolis.node.network.problems import Problems

_ACTIVE_BACKUP: Final = 1
_LACP: Final = 4
_POLL_MS: Final = 100  # for drivers that do not tell of a lost carrier, and for the delays
_HASH_POLICIES: Final = {
    net_pb2.Bond.TRANSMIT_HASH_POLICY_LAYER2: 0,
    net_pb2.Bond.TRANSMIT_HASH_POLICY_LAYER3_4: 1,
    net_pb2.Bond.TRANSMIT_HASH_POLICY_LAYER2_3: 2,
    net_pb2.Bond.TRANSMIT_HASH_POLICY_ENCAP_LAYER2_3: 3,
    net_pb2.Bond.TRANSMIT_HASH_POLICY_ENCAP_LAYER3_4: 4,
    net_pb2.Bond.TRANSMIT_HASH_POLICY_VLAN_SRCMAC: 5,
}
_RATES: Final = {net_pb2.Bond.LACP.RATE_SLOW: 0, net_pb2.Bond.LACP.RATE_FAST: 1}
_SELECTIONS: Final = {
    net_pb2.Bond.LACP.SELECTION_LOGIC_STABLE: 0,
    net_pb2.Bond.LACP.SELECTION_LOGIC_BANDWIDTH: 1,
    net_pb2.Bond.LACP.SELECTION_LOGIC_COUNT: 2,
}
_PRIORITY_MAX: Final = 0xFFFF
_PORT_KEY_MAX: Final = 1023
_MILLISECONDS_MAX: Final = 60_000
_HARDWARE_ADDRESS: Final = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")


def read_bond(bond: net_pb2.Bond, path: str, problems: Problems) -> BondOf:
    """Check a bond, and spell it as the kernel wants it."""
    if not bond.member_interface:
        problems.add(f"{path}.member_interface", "is empty")
    if not 0 <= bond.min_links <= max(len(bond.member_interface), 0):
        problems.add(f"{path}.min_links", f"{bond.min_links} is more than there are members")
    if bond.transmit_hash_policy not in _HASH_POLICIES:
        problems.add(f"{path}.transmit_hash_policy", f"{bond.transmit_hash_policy} is unknown")
    monitor = bond.carrier_monitor
    for field in ("polling_interval_ms", "down_delay_ms", "up_delay_ms"):
        value = getattr(monitor, field)
        if not 0 <= value <= _MILLISECONDS_MAX:
            problems.add(f"{path}.carrier_monitor.{field}", f"{value} is not 0 to 60000")
    settings = BondSettings(
        mode=_ACTIVE_BACKUP,
        poll_ms=monitor.polling_interval_ms or _POLL_MS,
        down_delay_ms=monitor.down_delay_ms or None,
        up_delay_ms=monitor.up_delay_ms or None,
        min_links=bond.min_links or None,
        uses_carrier=False if monitor.force_polling else None,
    )
    match bond.WhichOneof("mode"):
        case "lacp":
            settings = _with_lacp(settings, bond, f"{path}.lacp", problems)
        case "active_backup":
            pass
        case _:
            problems.add(path, "has no mode: set lacp or active_backup")
    return BondOf(members=tuple(bond.member_interface), settings=settings)


def _with_lacp(
    settings: BondSettings, bond: net_pb2.Bond, path: str, problems: Problems
) -> BondSettings:
    lacp = bond.lacp
    if lacp.rate not in _RATES:
        problems.add(f"{path}.rate", f"{lacp.rate} is unknown")
    if lacp.selection_logic not in _SELECTIONS:
        problems.add(f"{path}.selection_logic", f"{lacp.selection_logic} is unknown")
    if not 0 <= lacp.actor_system_priority <= _PRIORITY_MAX:
        fault = f"{lacp.actor_system_priority} is not 0 to {_PRIORITY_MAX}"
        problems.add(f"{path}.actor_system_priority", fault)
    if not 0 <= lacp.user_port_key <= _PORT_KEY_MAX:
        problems.add(f"{path}.user_port_key", f"{lacp.user_port_key} is not 0 to {_PORT_KEY_MAX}")
    mac = lacp.actor_system_mac
    if mac and not _HARDWARE_ADDRESS.fullmatch(mac):
        problems.add(f"{path}.actor_system_mac", f"{mac!r} is not like aa:bb:cc:dd:ee:ff")
        mac = ""
    return replace(
        settings,
        mode=_LACP,
        hash_policy=_HASH_POLICIES.get(bond.transmit_hash_policy),
        lacp_rate=_RATES.get(lacp.rate),
        selection=_SELECTIONS.get(lacp.selection_logic),
        system_priority=lacp.actor_system_priority or None,
        user_port_key=lacp.user_port_key or None,
        system_address=bytes.fromhex(mac.replace(":", "")) if mac else None,
    )
