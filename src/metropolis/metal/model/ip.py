# SPDX-License-Identifier: Apache-2.0
"""IP addresses that projects hold: what is stored, asked and answered."""

import ipaddress
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from metropolis.metal.store import Kind

IPType = Literal["ephemeral", "static"]
IPScope = Literal["", "project", "machine"]

# What a request may name; more is a mistake, and judging it would take long.
TAGS_MAX = 1000
GivenTags = Annotated[tuple[str, ...], msgspec.Meta(max_length=TAGS_MAX)]

TAG_MACHINE = "machine.metal-stack.io/id"


class IP(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """An address as stored; its id is the address in its shortest form.

    Attributes:
        allocation_uuid: New with every allocation, so that two users of one address differ.
        prefix: Of the network, that the address was taken from.
        type: What is ephemeral goes with its last machine.
        tags: Unique, sorted; `machine.metal-stack.io/id=<id>` for every machine that uses it.
    """

    name: str = ""
    description: str = ""
    allocation_uuid: str = msgspec.field(name="allocationuuid")
    prefix: str
    project_id: str = msgspec.field(name="projectid")
    network_id: str = msgspec.field(name="networkid")
    type: IPType
    tags: tuple[str, ...] = ()

    @property
    def machine_ids(self) -> tuple[str, ...]:
        """The machines that use it."""
        return machines_of(self.tags)

    @property
    def scope(self) -> IPScope:
        """Who may use it: a machine, a whole project, or (with neither) nobody."""
        if not self.project_id:
            return ""
        return "machine" if self.machine_ids else "project"

    @property
    def family(self) -> Literal["IPv4", "IPv6"]:
        """Its address family."""
        return "IPv6" if ipaddress.ip_network(self.prefix).version == 6 else "IPv4"  # noqa: PLR2004  # a version of IP


IPS = Kind(
    name="ip",
    type=IP,
    facets={
        "project": lambda each: (each.project_id,),
        "network": lambda each: (each.network_id,),
        "prefix": lambda each: (each.prefix,),
        "allocation": lambda each: (each.allocation_uuid,),
        "tag": lambda each: each.tags,
    },
)


def machines_of(tags: Iterable[str]) -> tuple[str, ...]:
    """The machines that tags tie an address to."""
    found = (tag.partition("=") for tag in tags)
    return tuple(value for key, _, value in found if key == TAG_MACHINE and value)


def machine_tag(machine_id: str) -> str:
    """The tag that ties an address to a machine."""
    return f"{TAG_MACHINE}={machine_id}"


class IPAllocateRequest(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """An address that a project wants."""

    name: str | None = None
    description: str | None = None
    networkid: str
    projectid: str
    type: IPType | None = None
    machineid: str | None = None
    addressfamily: str | None = None
    tags: GivenTags | None = None


class IPUpdateRequest(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What shall become of an address; absent fields stay as they are."""

    ipaddress: str
    name: str | None = None
    description: str | None = None
    type: IPType | None = None
    tags: GivenTags | None = None


class IPFindRequest(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Addresses that have all of these; all tags must be there."""

    ipaddress: str | None = None
    name: str | None = None
    addressfamily: str | None = None
    allocationuuid: str | None = None
    machineid: str | None = None
    networkid: str | None = None
    networkprefix: str | None = None
    projectid: str | None = None
    tags: GivenTags | None = None
    type: str | None = None


class IPResponse(msgspec.Struct, kw_only=True, frozen=True):
    """An address as answered."""

    ipaddress: str
    name: str
    description: str
    created: datetime
    changed: datetime
    allocationuuid: str
    networkid: str
    projectid: str
    tags: tuple[str, ...]
    type: IPType
