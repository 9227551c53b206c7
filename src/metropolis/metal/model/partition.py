# SPDX-License-Identifier: Apache-2.0
"""Partitions: rooms of racks that fail together, and how much of them is free."""

from datetime import datetime

from msgspec import Struct, field

from metropolis.metal.store import Kind, Stored


class BootConfiguration(Struct, frozen=True, kw_only=True):
    """What machines of a partition boot to register themselves.

    Attributes:
        image_url: Of the initial RAM disk.
        command_line: Of the kernel.
    """

    image_url: str = field(name="imageurl", default="")
    kernel_url: str = field(name="kernelurl", default="")
    command_line: str = field(name="commandline", default="")


class DNSServer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server of names, by its address."""

    ip: str


class NTPServer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server of time, by address or name."""

    address: str


class Partition(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A partition as it is stored.

    Attributes:
        management_address: `host:port` of its console service.
    """

    name: str = ""
    description: str = ""
    boot: BootConfiguration = field(name="bootconfig", default=BootConfiguration())
    management_address: str = field(name="mgmtserviceaddress", default="")
    labels: dict[str, str] = field(default_factory=dict[str, str])
    dns_servers: tuple[DNSServer, ...] = ()
    ntp_servers: tuple[NTPServer, ...] = ()


PARTITIONS = Kind(name="partition", type=Partition)


class BootConfigurationRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A boot configuration as a client states it."""

    image_url: str | None = field(name="imageurl", default=None)
    kernel_url: str | None = field(name="kernelurl", default=None)
    command_line: str | None = field(name="commandline", default=None)


class PartitionCreateRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `createPartition` takes."""

    id: str
    boot: BootConfigurationRequest = field(name="bootconfig")
    name: str | None = None
    description: str | None = None
    management_address: str | None = field(name="mgmtserviceaddress", default=None)
    labels: dict[str, str] | None = None
    dns_servers: tuple[DNSServer, ...] | None = None
    ntp_servers: tuple[NTPServer, ...] | None = None


class PartitionUpdateRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `updatePartition` takes; what is absent stays, and an empty list clears."""

    id: str
    boot: BootConfigurationRequest | None = field(name="bootconfig", default=None)
    name: str | None = None
    description: str | None = None
    management_address: str | None = field(name="mgmtserviceaddress", default=None)
    labels: dict[str, str] | None = None
    dns_servers: tuple[DNSServer, ...] | None = None
    ntp_servers: tuple[NTPServer, ...] | None = None


class PartitionResponse(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A partition on the wire."""

    id: str
    name: str
    description: str
    boot: BootConfiguration = field(name="bootconfig")
    management_address: str = field(name="mgmtserviceaddress")
    labels: dict[str, str]
    dns_servers: tuple[DNSServer, ...]
    ntp_servers: tuple[NTPServer, ...]
    created: datetime | None = None
    changed: datetime | None = None

    @classmethod
    def of(cls, partition: Stored[Partition]) -> "PartitionResponse":
        """Show a stored partition."""
        value = partition.value
        return cls(
            id=partition.id,
            name=value.name,
            description=value.description,
            boot=value.boot,
            management_address=value.management_address,
            labels=value.labels,
            dns_servers=value.dns_servers,
            ntp_servers=value.ntp_servers,
            created=partition.created,
            changed=partition.changed,
        )


class PartitionCapacityRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What capacity is asked for; what is absent or empty means all.

    Attributes:
        project_id: For whom: reservations of others do not count as free.
    """

    id: str | None = None
    size_id: str | None = field(name="sizeid", default=None)
    project_id: str | None = field(name="projectid", default=None)


class ServerCapacity(Struct, frozen=True, kw_only=True):
    """How many machines of one size a partition has, and what they are doing."""

    size: str
    total: int = 0
    phoned_home: int = 0
    waiting: int = 0
    other: int = 0
    other_machines: tuple[str, ...] = field(name="othermachines", default=())
    allocated: int = 0
    allocatable: int = 0
    free: int = 0
    unavailable: int = 0
    faulty: int = 0
    faulty_machines: tuple[str, ...] = field(name="faultymachines", default=())
    reservations: int = 0
    used_reservations: int = field(name="usedreservations", default=0)
    remaining_reservations: int = field(name="remainingreservations", default=0)


class PartitionCapacity(Struct, frozen=True, kw_only=True):
    """What a partition has, by size."""

    id: str
    name: str
    description: str
    servers: tuple[ServerCapacity, ...]
