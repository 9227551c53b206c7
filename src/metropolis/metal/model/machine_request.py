# SPDX-License-Identifier: Apache-2.0
"""What is asked of machines and firewalls."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from metropolis.metal.model.ipmi import Fru, PowerMetric, PowerSupply
from metropolis.metal.model.machine_network import MachineAllocationNetwork
from metropolis.metal.model.partition import DNSServer, NTPServer

Count = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class EgressRuleRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule for what goes out, as a client states it."""

    protocol: str | None = None
    ports: tuple[Count, ...] | None = None
    to: tuple[str, ...] | None = None
    comment: str | None = None


class IngressRuleRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule for what comes in, as a client states it."""

    protocol: str | None = None
    ports: tuple[Count, ...] | None = None
    sources: tuple[str, ...] | None = field(name="from", default=None)
    to: tuple[str, ...] | None = None
    comment: str | None = None


class FirewallRulesRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules as a client states them."""

    egress: tuple[EgressRuleRequest, ...] | None = None
    ingress: tuple[IngressRuleRequest, ...] | None = None


class MachineAllocateRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `allocateMachine` takes.

    Attributes:
        uuid: This machine and no other.
        placement_tags: Away from machines of the project that have any of these tags.
    """

    project_id: str = field(name="projectid")
    partition_id: str = field(name="partitionid", default="")
    size_id: str = field(name="sizeid", default="")
    image_id: str = field(name="imageid")
    uuid: str | None = None
    name: str | None = None
    hostname: str | None = None
    description: str | None = None
    filesystemlayout_id: str | None = field(name="filesystemlayoutid", default=None)
    ssh_pub_keys: tuple[str, ...] | None = None
    user_data: str | None = None
    tags: tuple[str, ...] | None = None
    placement_tags: tuple[str, ...] | None = None
    networks: tuple[MachineAllocationNetwork, ...] | None = None
    ips: tuple[str, ...] | None = None
    dns_servers: tuple[DNSServer, ...] | None = None
    ntp_servers: tuple[NTPServer, ...] | None = None


class FirewallCreateRequest(MachineAllocateRequest, frozen=True, kw_only=True):
    """What `allocateFirewall` takes."""

    firewall_rules: FirewallRulesRequest | None = None


class AllocateQuery(Struct, frozen=True, kw_only=True):
    """How an allocation is asked for, beside what is.

    Attributes:
        idempotency_key: Chosen by the client: asking again with the same key and the same project
            answers with the machine of the first time for as long as it has it. The header
            `Idempotency-Key` says the same.
    """

    idempotency_key: str = field(name="idempotency-key", default="")


class MachineSearchQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is looked for; what is absent matches everything, and of lists all must be there."""

    id: str | None = None
    name: str | None = None
    partition_id: str | None = None
    sizeid: str | None = None
    rackid: str | None = None
    roomid: str | None = None
    tags: tuple[str, ...] | None = None
    state_value: Literal["", "LOCKED", "RESERVED", "TAINTED"] | None = None
    allocation_hostname: str | None = None
    allocation_image_id: str | None = None
    allocation_name: str | None = None
    allocation_project: str | None = None
    allocation_role: str | None = None
    allocation_succeeded: bool | None = None
    disk_names: tuple[str, ...] | None = None
    disk_sizes: tuple[Count, ...] | None = None
    hardware_memory: Count | None = None
    network_asns: tuple[Count, ...] | None = None
    network_destination_prefixes: tuple[str, ...] | None = None
    network_ids: tuple[str, ...] | None = None
    network_ips: tuple[str, ...] | None = None
    network_prefixes: tuple[str, ...] | None = None
    network_vrfs: tuple[Count, ...] | None = None
    nics_mac_addresses: tuple[str, ...] | None = None
    nics_names: tuple[str, ...] | None = None
    nics_neighbor_mac_addresses: tuple[str, ...] | None = None
    nics_neighbor_names: tuple[str, ...] | None = None
    nics_neighbor_vrfs: tuple[str, ...] | None = None
    nics_vrfs: tuple[str, ...] | None = None
    ipmi_address: str | None = None
    ipmi_interface: str | None = None
    ipmi_mac_address: str | None = None
    ipmi_user: str | None = None
    fru_board_mfg: str | None = None
    fru_board_mfg_serial: str | None = None
    fru_board_part_number: str | None = None
    fru_chassis_part_number: str | None = None
    fru_chassis_part_serial: str | None = None
    fru_product_manufacturer: str | None = None
    fru_product_part_number: str | None = None
    fru_product_serial: str | None = None


class MachineFindRequest(MachineSearchQuery, frozen=True, kw_only=True):
    """What `findMachines`, `findFirewalls` and `findIPMIMachines` take."""


class MachineIssuesRequest(MachineSearchQuery, frozen=True, kw_only=True):
    """What `issues` takes.

    Attributes:
        last_error_threshold_ns: For how long an error event counts.
    """

    only: tuple[str, ...] | None = None
    omit: tuple[str, ...] | None = None
    severity: str | None = None
    last_error_threshold_ns: Count | None = field(name="last_error_threshold", default=None)


class MachineUpdateRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `updateMachine` takes; what is absent stays as it is."""

    id: str
    description: str | None = None
    tags: tuple[str, ...] | None = None
    ssh_pub_keys: tuple[str, ...] | None = None


class MachineStateRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `setMachineState` takes; who decided is who calls."""

    value: Literal["", "LOCKED", "RESERVED", "TAINTED"]
    description: str | None = None
    issuer: str | None = None
    metal_hammer_version: str | None = None


class MachineReinstallRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `reinstallMachine` takes."""

    id: str
    image_id: str = field(name="imageid")
    name: str | None = None
    description: str | None = None


class MachineConsolePasswordRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `getMachineConsolePassword` takes."""

    id: str
    reason: str


class EmptyBody(Struct, frozen=True, kw_only=True):
    """What commands take: nothing of meaning."""


class LedQuery(Struct, frozen=True, kw_only=True):
    """Why the light is switched."""

    description: str = ""


class MachineIpmiReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a BMC says; what is absent is not known."""

    bmc_ip: str = field(name="BMCIp")
    bmc_version: str | None = field(name="BMCVersion", default=None)
    bios_version: str | None = field(name="BIOSVersion", default=None)
    fru: Fru | None = field(name="FRU", default=None)
    power_state: str | None = field(name="PowerState", default=None)
    led_state: str | None = field(name="IndicatorLEDState", default=None)
    power_metric: PowerMetric | None = field(name="PowerMetric", default=None)
    power_supplies: tuple[PowerSupply, ...] | None = field(name="PowerSupplies", default=None)


class MachineIpmiReports(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `ipmiReport` takes: reports by machine."""

    partition_id: str = field(name="partitionid", default="")
    reports: dict[str, MachineIpmiReport] | None = None


class EventReport(Struct, frozen=True, kw_only=True):
    """An event as a machine sends it.

    Attributes:
        time: What the machine's clock says.
    """

    event: str
    message: str = ""
    time: datetime | None = None
