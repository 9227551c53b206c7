# SPDX-License-Identifier: Apache-2.0
"""Switches, their ports and what is connected there: what is stored, asked and answered."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from metropolis.metal.model.partition import PartitionResponse
from metropolis.metal.store import Kind

PortStatus = Literal["UP", "DOWN", "UNKNOWN"]
AdminStatus = Literal["UP", "DOWN"]
SwitchMode = Literal["operational", "replace"]
SwitchVendor = Literal["SONiC", "Cumulus"]
# More ports than any switch has; judging more would take long.
PORTS_MAX = 4096
Counter = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class SwitchOS(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What runs on a switch."""

    vendor: str = ""
    version: str = ""
    metal_core_version: str = ""


class SwitchPort(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A port of a switch as stored.

    Attributes:
        vrf: Empty: not provisioned; `default`: of a firewall; `vrf<number>`: of a tenant.
        admin_status: Whether it shall be on; empty when nobody ever said.
    """

    name: str
    identifier: str = ""
    mac: str = ""
    vrf: str = ""
    admin_status: AdminStatus | Literal[""] = ""

    @property
    def key(self) -> str:
        """What it is known by across registrations."""
        return self.identifier or self.mac


class PortConnection(msgspec.Struct, kw_only=True, frozen=True):
    """That a machine is plugged into a port, by the port's name."""

    port: str
    machine_id: str = msgspec.field(name="machineid")


class Switch(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A switch as stored: what is decided, not what is observed.

    Attributes:
        ports: Unique by key and by name.
        connections: At most one for each port.
    """

    name: str = ""
    description: str = ""
    partition_id: str = msgspec.field(name="partitionid")
    rack_id: str = msgspec.field(name="rackid")
    room_id: str = msgspec.field(name="roomid", default="")
    mode: SwitchMode = "operational"
    os: SwitchOS = SwitchOS()
    management_ip: str = ""
    management_user: str = ""
    console_command: str = ""
    ports: tuple[SwitchPort, ...] = ()
    connections: tuple[PortConnection, ...] = ()


SWITCHES = Kind(
    name="switch",
    type=Switch,
    facets={
        "name": lambda each: (each.name,) if each.name else (),
        "partition": lambda each: (each.partition_id,),
        "rack": lambda each: (each.rack_id,),
        "mac": lambda each: sorted({port.mac.lower() for port in each.ports if port.mac}),
        "machine": lambda each: sorted({one.machine_id for one in each.connections}),
    },
)


class SwitchBGPPortState(
    msgspec.Struct, kw_only=True, frozen=True, rename="pascal", forbid_unknown_fields=True
):
    """What a switch says of the BGP session on a port; times in seconds."""

    neighbor: str = ""
    peer_group: str = ""
    vrf_name: str = ""
    bgp_state: str = ""
    bgp_timer_up_established: Counter = 0
    sent_prefix_counter: Counter = 0
    accepted_prefix_counter: Counter = 0


class SwitchSync(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """An attempt of a switch to become what it should be; the duration in nanoseconds."""

    time: datetime
    duration: int
    error: str | None = None


class SwitchStatus(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What a switch reported last, under the id of the switch and apart from it.

    A switch reports every ten seconds: kept in the switch, that would be a change of the switch.

    Attributes:
        pending: By port, the status that was asked for and not reported yet.
    """

    last_sync: SwitchSync | None = None
    last_sync_error: SwitchSync | None = None
    port_states: dict[str, PortStatus] = msgspec.field(default_factory=dict[str, PortStatus])
    bgp_port_states: dict[str, SwitchBGPPortState] = msgspec.field(
        default_factory=dict[str, SwitchBGPPortState]
    )
    pending: dict[str, AdminStatus] = msgspec.field(default_factory=dict[str, AdminStatus])


SWITCH_STATUSES = Kind(name="switchstatus", type=SwitchStatus)


class BGPFilter(
    msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What a port's neighbour may announce; none when everything is refused by default."""

    cidrs: tuple[str, ...]
    vnis: tuple[str, ...] | None = None


class SwitchNic(
    msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A port as answered, and as a switch registers it."""

    name: str
    identifier: str
    mac: str
    actual: PortStatus
    admin_status: AdminStatus | None = None
    vrf: str | None = None
    filter: BGPFilter | None = None
    bgp_port_state: SwitchBGPPortState | None = None


class SwitchConnection(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A connection as answered."""

    nic: SwitchNic
    machine_id: str | None = None


class SwitchOSRequest(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What runs on a switch, as it says itself."""

    vendor: SwitchVendor | None = None
    version: str | None = None
    metal_core_version: str | None = None


class SwitchRegisterRequest(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What a switch says of itself when it starts."""

    id: str
    name: str | None = None
    description: str | None = None
    partition_id: str
    rack_id: str
    room_id: str | None = None
    mode: str | None = None
    nics: Annotated[tuple[SwitchNic, ...], msgspec.Meta(max_length=PORTS_MAX)]
    os: SwitchOSRequest | None = None
    management_ip: str | None = None
    management_user: str | None = None
    console_command: str | None = None


class SwitchUpdateRequest(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What shall become of a switch; absent fields stay as they are."""

    id: str
    name: str | None = None
    description: str | None = None
    rack_id: str
    room_id: str | None = None
    mode: str | None = None
    os: SwitchOSRequest | None = None
    management_ip: str | None = None
    management_user: str | None = None
    console_command: str | None = None


class SwitchFindRequest(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Switches that have all of these."""

    id: str | None = None
    name: str | None = None
    osvendor: str | None = None
    osversion: str | None = None
    partitionid: str | None = None
    rackid: str | None = None
    roomid: str | None = None


class SwitchMigrateRequest(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Move what is connected to one switch to another."""

    new_switch_id: str
    old_switch_id: str


class SwitchPortToggleRequest(
    msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True
):
    """Turn a port on or off."""

    nic: str
    status: AdminStatus


class SwitchNotifyRequest(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What a switch observes; the duration in nanoseconds."""

    sync_duration: Counter
    error: str | None = None
    port_states: dict[str, PortStatus] | None
    bgp_port_states: dict[str, SwitchBGPPortState] | None = None


class SwitchNotifyResponse(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What is remembered of a report."""

    id: str
    name: str
    description: str
    last_sync: SwitchSync | None = None
    last_sync_error: SwitchSync | None = None


class SwitchResponse(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A switch as answered; ports by name, connections by machine."""

    id: str
    name: str
    description: str
    created: datetime
    changed: datetime
    partition: PartitionResponse
    rack_id: str
    room_id: str
    mode: SwitchMode
    os: SwitchOS | None = None
    management_ip: str
    management_user: str
    console_command: str
    nics: tuple[SwitchNic, ...]
    connections: tuple[SwitchConnection, ...]
    last_sync: SwitchSync | None = None
    last_sync_error: SwitchSync | None = None
