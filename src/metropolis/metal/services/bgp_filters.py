# SPDX-License-Identifier: Apache-2.0
"""What the machines at the ports of switches may announce."""

from collections.abc import Iterable

from metropolis.metal.model.ip import IPS
from metropolis.metal.model.machine import MACHINES, Machine
from metropolis.metal.model.network import NETWORKS
from metropolis.metal.model.switch import BGPFilter, Switch
from metropolis.metal.rules.bgp_filter import (
    FIREWALL_VRF,
    Range,
    firewall_filter,
    machine_filter,
    ranges_of,
)
from metropolis.metal.store import Reader


class BGPFilters:
    """Filters of the ports of some switches, from one view of the store.

    Everything is read once for all of them: the machines of a rack, the super network of a
    partition, the addresses of a project. So neither the number of queries nor what they return
    grows with what else there is.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._machines: dict[str, Machine | None] = {}
        self._racks: set[tuple[str, str]] = set()
        self._project_ranges: dict[str, tuple[Range, ...]] = {}
        self._announcable: dict[str, tuple[str, ...]] = {}
        self._underlays: frozenset[str] | None = None

    async def of(self, switch: Switch) -> dict[str, BGPFilter | None]:
        """The filters by name of the port; None where no machine is, or one that is nobody's."""
        vrfs = {port.name: port.vrf for port in switch.ports}
        await self._read_machines(switch)
        return {
            each.port: await self._filter(self._machines[each.machine_id], vrfs.get(each.port, ""))
            for each in switch.connections
        }

    async def _read_machines(self, switch: Switch) -> None:
        rack = (switch.partition_id, switch.rack_id)
        if switch.connections and rack not in self._racks:
            self._racks.add(rack)
            where = {"partition": switch.partition_id, "rack": switch.rack_id}
            for found in await self._reader.find(MACHINES, where):
                self._machines[found.id] = found.value
        for each in switch.connections:
            # One that registered before its rack was renamed.
            if each.machine_id not in self._machines:
                stored = await self._reader.lookup(MACHINES, each.machine_id)
                self._machines[each.machine_id] = None if stored is None else stored.value

    async def _filter(self, machine: Machine | None, vrf: str) -> BGPFilter | None:
        if machine is None or machine.allocation is None:
            return None
        networks = machine.allocation.networks
        if machine.allocation.role == "firewall":
            # Before its port is in this VRF it boots by PXE, and a filter would stop that.
            return firewall_filter(networks) if vrf == FIREWALL_VRF else None
        return machine_filter(
            networks,
            announcable=await self._announcable_in(machine.partition_id),
            project=await self._ranges_of(machine.allocation.project_id),
        )

    async def _announcable_in(self, partition_id: str) -> Iterable[str]:
        """What the super network of a partition allows, of which its private networks are cut."""
        if partition_id not in self._announcable:
            found = await self._reader.find(
                NETWORKS, {"kind": ("super", "super-namespaced"), "partition": partition_id}
            )
            self._announcable[partition_id] = tuple(
                cidr for each in found for cidr in each.value.additional_announcable_cidrs
            )
        return self._announcable[partition_id]

    async def _ranges_of(self, project_id: str) -> tuple[Range, ...]:
        """The addresses of a project, but those in underlays, which no machine announces."""
        if self._underlays is None:
            found = await self._reader.find(NETWORKS, {"kind": "underlay"})
            self._underlays = frozenset(each.id for each in found)
        if project_id not in self._project_ranges:
            self._project_ranges[project_id] = ranges_of(
                each.id
                for each in await self._reader.find(IPS, {"project": project_id})
                if each.value.network_id not in self._underlays
            )
        return self._project_ranges[project_id]
