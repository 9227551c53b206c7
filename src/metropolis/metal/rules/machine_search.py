# SPDX-License-Identifier: Apache-2.0
"""What a search for machines means: by which facets they are looked up, and what is left to judge.

Of a list in a query the machine must have every element. A field of the query is one line here.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from metropolis.metal.model.hardware import Nic
from metropolis.metal.model.ipmi import Ipmi
from metropolis.metal.model.machine import NO_MAC, Allocation, Machine
from metropolis.metal.model.machine_network import MachineNetwork
from metropolis.metal.model.machine_request import MachineSearchQuery
from metropolis.metal.store import Scalar

Values: TypeAlias = Collection[Scalar | None]


def _allocation(look: Callable[[Allocation], Scalar]) -> Callable[[Machine], Values]:
    def values(machine: Machine) -> Values:
        return () if machine.allocation is None else (look(machine.allocation),)

    return values


def _networks(look: Callable[[MachineNetwork], Iterable[Scalar]]) -> Callable[[Machine], Values]:
    def values(machine: Machine) -> Values:
        if machine.allocation is None:
            return ()
        return {value for each in machine.allocation.networks for value in look(each)}

    return values


def _neighbors(look: Callable[[Nic], str]) -> Callable[[Machine], Values]:
    return lambda machine: {look(other) for nic in machine.hardware.nics for other in nic.neighbors}


def _nothing(_: Machine) -> Values:
    """VRFs are of ports of switches: no interface of a machine ever had one."""
    return ()


# Field of the query: the facet that holds the same values, and these.
_MACHINE: Final[Mapping[str, tuple[str | None, Callable[[Machine], Values]]]] = {
    "id": (None, lambda each: (each.id,)),
    "name": ("name", lambda each: (each.name,)),
    "partition_id": ("partition", lambda each: (each.partition_id,)),
    "sizeid": ("size", lambda each: (each.size_id,)),
    "rackid": ("rack", lambda each: (each.rack_id,)),
    "roomid": (None, lambda each: (each.room_id,)),
    "tags": ("tag", lambda each: each.tags),
    "state_value": ("state", lambda each: (each.state.value,)),
    "allocation_hostname": ("hostname", _allocation(lambda each: each.hostname)),
    "allocation_image_id": (
        "image",
        lambda each: (each.image_id,) if each.allocation is not None else (),
    ),
    "allocation_name": (None, _allocation(lambda each: each.name)),
    "allocation_project": ("project", _allocation(lambda each: each.project_id)),
    "allocation_role": ("role", _allocation(lambda each: each.role)),
    "allocation_succeeded": (None, _allocation(lambda each: each.succeeded)),
    "disk_names": (None, lambda each: {disk.name for disk in each.hardware.disks}),
    "disk_sizes": (None, lambda each: {disk.size_bytes for disk in each.hardware.disks}),
    "hardware_memory": (None, lambda each: (each.hardware.memory_bytes,)),
    "network_asns": (None, _networks(lambda each: (each.asn,))),
    "network_destination_prefixes": (None, _networks(lambda each: each.destination_prefixes)),
    "network_ids": ("network", _networks(lambda each: (each.network_id,))),
    "network_ips": ("ip", _networks(lambda each: each.ips)),
    "network_prefixes": (None, _networks(lambda each: each.prefixes)),
    "network_vrfs": (None, _networks(lambda each: (each.vrf,))),
    "nics_mac_addresses": ("mac", lambda each: {nic.mac for nic in each.hardware.nics}),
    "nics_names": (None, lambda each: {nic.name for nic in each.hardware.nics}),
    "nics_neighbor_mac_addresses": (None, _neighbors(lambda each: each.mac)),
    "nics_neighbor_names": (None, _neighbors(lambda each: each.name)),
    "nics_neighbor_vrfs": (None, _nothing),
    "nics_vrfs": (None, _nothing),
}
_IPMI: Final[Mapping[str, tuple[str | None, Callable[[Ipmi], Values]]]] = {
    "ipmi_address": ("address", lambda each: (each.address,)),
    "ipmi_interface": (None, lambda each: (each.interface,)),
    "ipmi_mac_address": ("mac", lambda each: (each.mac,)),
    "ipmi_user": (None, lambda each: (each.user,)),
    "fru_board_mfg": (None, lambda each: (each.fru.board_mfg,)),
    "fru_board_mfg_serial": ("board-serial", lambda each: (each.fru.board_mfg_serial,)),
    "fru_board_part_number": ("board", lambda each: (each.fru.board_part_number,)),
    "fru_chassis_part_number": (None, lambda each: (each.fru.chassis_part_number,)),
    "fru_chassis_part_serial": ("chassis-serial", lambda each: (each.fru.chassis_part_serial,)),
    "fru_product_manufacturer": (None, lambda each: (each.fru.product_manufacturer,)),
    "fru_product_part_number": (None, lambda each: (each.fru.product_part_number,)),
    "fru_product_serial": ("product-serial", lambda each: (each.fru.product_serial,)),
}


@dataclass(slots=True, kw_only=True)
class Clauses:
    """What one kind of entity must be like.

    Attributes:
        where: By facets.
        rest: What facets do not tell: all of these.
        all: What `where` and `rest` say together, for an entity that was not found by facets.
    """

    where: dict[str, Scalar | Sequence[Scalar]] = field(
        default_factory=dict[str, Scalar | Sequence[Scalar]]
    )
    rest: list[Callable[[Any], bool]] = field(default_factory=list[Callable[[Any], bool]])
    all: list[Callable[[Any], bool]] = field(default_factory=list[Callable[[Any], bool]])

    def add(
        self, facet: str | None, look: Callable[[Any], Values], wanted: tuple[Scalar, ...]
    ) -> None:
        """Demand that an entity has all of some values."""

        def has_all(entity: object) -> bool:
            values = look(entity)
            return all(each in values for each in wanted)

        self.all.append(has_all)
        usable = facet is not None and bool(wanted) and wanted[0] not in {"", NO_MAC}
        if usable and facet is not None:
            self.where[facet] = wanted[0]
        if not usable or len(wanted) > 1:
            self.rest.append(has_all)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A query, taken apart.

    Attributes:
        machine_id: The only one that it can be; None when it can be any.
        ipmi: None when nothing is asked about the BMC.
    """

    machine_id: str | None
    machine: Clauses
    ipmi: Clauses | None


def parse_search(query: MachineSearchQuery) -> Search:
    """Take a query apart."""
    machine, ipmi = Clauses(), Clauses()
    for name, (facet, look) in _MACHINE.items():
        wanted = _wanted(query, name)
        if wanted is not None:
            machine.add(facet, look, wanted)
    for name, (facet, look_ipmi) in _IPMI.items():
        wanted = _wanted(query, name)
        if wanted is not None:
            ipmi.add(facet, look_ipmi, wanted)
    return Search(machine_id=query.id, machine=machine, ipmi=ipmi if ipmi.all else None)


def _wanted(query: MachineSearchQuery, name: str) -> tuple[Scalar, ...] | None:
    value: Scalar | tuple[Scalar, ...] | None = getattr(query, name)
    if value is None:
        return None
    if name == "state_value" and value == "TAINTED":
        value = "RESERVED"
    return (value,) if isinstance(value, str | int) else value
