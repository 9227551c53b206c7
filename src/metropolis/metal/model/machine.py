# SPDX-License-Identifier: Apache-2.0
"""Machines, and whose they are.

What is stored has the shape of what is answered, so that a list of thousands can pass the text on;
what changes all the time (events) or is secret (BMC, console password) is stored apart.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal, TypeAlias

from msgspec import Struct, field

from metropolis.metal.model.firewall_rules import FirewallRules
from metropolis.metal.model.hardware import Bios, Hardware
from metropolis.metal.model.layout import FilesystemLayoutResponse
from metropolis.metal.model.machine_network import MachineNetwork
from metropolis.metal.model.partition import DNSServer, NTPServer
from metropolis.metal.store import Kind

MachineRole: TypeAlias = Literal["machine", "firewall"]
# `TAINTED` of the original is the same as `RESERVED`, which is what it always showed.
StateValue: TypeAlias = Literal["", "LOCKED", "RESERVED"]
LedValue: TypeAlias = Literal["LED-ON", "LED-OFF"]

NO_MAC: Final = "00:00:00:00:00:00"  # of the interface `lo` that every machine reports
TAG_ASN: Final = "machine.metal-stack.io/network.primary.asn"
TAG_RACK: Final = "machine.metal-stack.io/rack"
TAG_CHASSIS: Final = "machine.metal-stack.io/chassis"


class MachineState(Struct, frozen=True, kw_only=True):
    """Whether a machine may be used, as an operator decided.

    Attributes:
        value: Empty: available; `RESERVED`: only by naming it; `LOCKED`: it stays whose it is.
        issuer: Who decided, by mail address.
        metal_hammer_version: What runs on it while it waits.
    """

    value: StateValue = ""
    description: str = ""
    issuer: str = ""
    metal_hammer_version: str = ""


class LedState(Struct, frozen=True, kw_only=True):
    """The light that tells people which machine it is."""

    value: LedValue = "LED-OFF"
    description: str = ""


class BootInfo(Struct, frozen=True, kw_only=True):
    """How the installed system boots."""

    image_id: str = ""
    primary_disk: str = ""
    os_partition: str = ""
    initrd: str = ""
    cmdline: str = ""
    kernel: str = ""
    bootloader_id: str = field(name="bootloaderid", default="")


class MachineVPN(Struct, frozen=True, kw_only=True):
    """How a firewall gets into the VPN."""

    address: str = ""
    auth_key: str = ""
    connected: bool = False


class Allocation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """That a machine is somebody's. The image is named in the machine and filled in when answered.

    Attributes:
        uuid: New with every allocation.
        creator: By mail address.
        layout: As it was when the machine was allocated.
        succeeded: The operating system was installed.
        failure: What the machine said when the last installation failed; gone with a success.
        boot_info: Of the system that is installed, once one is.
    """

    uuid: str = field(name="allocationuuid")
    project_id: str = field(name="project")
    role: MachineRole
    name: str
    hostname: str
    created: datetime
    creator: str
    networks: tuple[MachineNetwork, ...]
    ssh_pub_keys: tuple[str, ...]
    reinstall: bool
    succeeded: bool
    description: str = ""
    user_data: str = ""
    dns_servers: tuple[DNSServer, ...] = ()
    ntp_servers: tuple[NTPServer, ...] = ()
    firewall_rules: FirewallRules | None = None
    layout: FilesystemLayoutResponse | None = field(name="filesystemlayout", default=None)
    boot_info: BootInfo | None = None
    vpn: MachineVPN | None = None
    failure: str = ""


class Machine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A machine as it is stored.

    What has no default is always written, in this order, and the allocation stands last: lists
    are made of the text (`http.machine_text`).

    Attributes:
        image_id: Of the allocation; empty without one.
        waiting: It waits for being allocated, right now.
        size_id: Empty until it registered.
        tags: Sorted; those of the system win over those of users.
    """

    id: str
    partition_id: str = field(name="partitionid")
    size_id: str = field(name="sizeid")
    image_id: str = field(name="imageid")
    waiting: bool
    created: datetime
    changed: datetime
    hardware: Hardware
    bios: Bios
    state: MachineState
    ledstate: LedState
    tags: tuple[str, ...]
    name: str = ""
    description: str = ""
    rack_id: str = field(name="rackid", default="")
    room_id: str = field(name="roomid", default="")
    allocation: Allocation | None = None

    @property
    def candidate(self) -> bool:
        """Whether it may be allocated to somebody who does not care which one it is.

        That it is alive is for the events to say.
        """
        return is_candidate(self.waiting, self.allocation, self.state)


def is_candidate(waiting: bool, allocation: object, state: MachineState) -> bool:
    """Whether a machine may be allocated to somebody who does not care which one it is."""
    return waiting and allocation is None and state.value == ""


def _of_allocation(machine: Machine, *values: str) -> tuple[str, ...]:
    return tuple(value for value in values if value) if machine.allocation is not None else ()


def _project(machine: Machine) -> Sequence[str]:
    return () if machine.allocation is None else (machine.allocation.project_id,)


def _role(machine: Machine) -> Sequence[str]:
    return () if machine.allocation is None else (machine.allocation.role,)


def _spread(machine: Machine) -> Sequence[str]:
    allocation = machine.allocation
    if allocation is None:
        return ()
    return (
        spread_key(
            allocation.project_id, machine.partition_id, allocation.role, rack_id=machine.rack_id
        ),
    )


def _tag_spread(machine: Machine) -> Sequence[str]:
    allocation = machine.allocation
    if allocation is None:
        return ()
    project, partition, rack = allocation.project_id, machine.partition_id, machine.rack_id
    return [tag_spread_key(project, partition, tag, rack_id=rack) for tag in machine.tags]


def _hostname(machine: Machine) -> Sequence[str]:
    return () if machine.allocation is None else (machine.allocation.hostname,)


def _networks(machine: Machine) -> Sequence[str]:
    if machine.allocation is None:
        return ()
    return sorted({each.network_id for each in machine.allocation.networks})


def _ips(machine: Machine) -> Sequence[str]:
    if machine.allocation is None:
        return ()
    return sorted({ip for each in machine.allocation.networks for ip in each.ips})


def _macs(machine: Machine) -> Sequence[str]:
    return sorted({nic.mac for nic in machine.hardware.nics if nic.mac not in {"", NO_MAC}})


def _firewall_asns(machine: Machine) -> Sequence[int]:
    allocation = machine.allocation
    if allocation is None or allocation.role != "firewall":
        return ()
    return sorted({each.asn for each in allocation.networks if each.asn})


MACHINES = Kind(
    name="machine",
    type=Machine,
    facets={
        "partition": lambda each: (each.partition_id,),
        "size": lambda each: (each.size_id,),
        "rack": lambda each: (each.rack_id,) if each.rack_id else (),
        "name": lambda each: (each.name,) if each.name else (),
        "state": lambda each: (each.state.value,),
        "tag": lambda each: each.tags,
        "mac": _macs,
        "allocated": lambda each: (each.allocation is not None,),
        "project": _project,
        "role": _role,
        "hostname": _hostname,
        "image": lambda each: _of_allocation(each, each.image_id),
        "network": _networks,
        "ip": _ips,
        "firewall-asn": _firewall_asns,
        # Where it can be allocated, so that nobody has to read thousands to choose one.
        "pool": lambda each: (
            (pool_of(each.partition_id, each.size_id, each.rack_id),) if each.candidate else ()
        ),
        "waiting": lambda each: (
            (waiting_in(each.partition_id, each.size_id),) if each.candidate else ()
        ),
        # Where a project has machines of a role, and machines with a tag.
        "spread": _spread,
        "tag-spread": _tag_spread,
    },
)


def pool_of(partition_id: str, size_id: str, rack_id: str = "") -> str:
    """The pool of interchangeable machines in a rack; without a rack what all those begin with.

    The separator is in no id that anybody types.
    """
    return f"{partition_id}\x1f{size_id}\x1f{rack_id}"


def waiting_in(partition_id: str, size_id: str) -> str:
    """The pool over all racks, where machines are in the order of their ids."""
    return f"{partition_id}\x1f{size_id}"


def spread_key(project_id: str, partition_id: str, role: str, *, rack_id: str = "") -> str:
    """The machines of a project in a rack that have a role; without a rack what all begin with."""
    return f"{project_id}\x1f{partition_id}\x1f{role}\x1f{rack_id}"


def tag_spread_key(project_id: str, partition_id: str, tag: str, *, rack_id: str = "") -> str:
    """The same for a tag, which can be longer than an index takes."""
    short = hashlib.sha256(tag.encode(errors="surrogatepass")).hexdigest()
    return f"{project_id}\x1f{partition_id}\x1f{short}\x1f{rack_id}"
