# SPDX-License-Identifier: Apache-2.0
"""Networks: what is stored of them, what is asked and what is answered."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from metropolis.metal.store import Kind, Scalar

NetworkKind = Literal["external", "underlay", "super", "super-namespaced", "child", "child-shared"]
NatKind = Literal["none", "ipv4-masq"]
Cidrs = tuple[str, ...]
# What a request may name; more is a mistake, and judging it would take long.
CIDRS_MAX = 1000
GivenCidrs = Annotated[Cidrs, msgspec.Meta(max_length=CIDRS_MAX)]


class Network(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A network as stored.

    Attributes:
        prefixes: Masked CIDRs, in the order given; each is a prefix of the address books.
        destination_prefixes: What is reached through this network.
        child_prefix_length: Of a super network: by address family, the bits of a child's prefix.
        kind: Derived from the flags of the request; everything else is derived from it.
        vrf: 0 when it has none. A number that this network holds in the pool.
        vrf_shared: Several networks may hold the same number.
        shared: Other projects may use it.
        additional_announcable_cidrs: Of a super network: what machines may announce beside.
    """

    name: str = ""
    description: str = ""
    prefixes: Cidrs
    destination_prefixes: Cidrs = msgspec.field(name="destinationprefixes", default=())
    child_prefix_length: dict[str, int] = msgspec.field(
        name="defaultchildprefixlength", default_factory=dict[str, int]
    )
    partition_id: str = msgspec.field(name="partitionid", default="")
    project_id: str = msgspec.field(name="projectid", default="")
    parent_network_id: str = msgspec.field(name="parentnetworkid", default="")
    vrf: int = 0
    vrf_shared: bool = msgspec.field(name="vrfshared", default=False)
    labels: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    kind: NetworkKind = msgspec.field(name="networktype")
    nat_kind: NatKind = msgspec.field(name="nattype", default="none")
    shared: bool = False
    additional_announcable_cidrs: Cidrs = msgspec.field(
        name="additionalannouncablecidrs", default=()
    )

    @property
    def private_super(self) -> bool:
        """Whether children are cut from it."""
        return self.kind in {"super", "super-namespaced"}

    @property
    def underlay(self) -> bool:
        """Whether it carries the fabric itself."""
        return self.kind == "underlay"

    @property
    def private(self) -> bool:
        """Whether it is a project's own, cut from a super network."""
        return self.kind in {"child", "child-shared"}

    @property
    def nat(self) -> bool:
        """Whether packets that leave it are masqueraded."""
        return self.nat_kind != "none"


def _one(value: str) -> Sequence[Scalar]:
    return (value,) if value else ()


NETWORKS = Kind(
    name="network",
    type=Network,
    facets={
        "kind": lambda each: (each.kind,),
        "partition": lambda each: _one(each.partition_id),
        "project": lambda each: _one(each.project_id),
        "parent": lambda each: _one(each.parent_network_id),
        "vrf": lambda each: (each.vrf,) if each.vrf else (),
        "prefix": lambda each: each.prefixes,
    },
)


class NetworkUsage(msgspec.Struct, kw_only=True, frozen=True):
    """How much of some prefixes is taken; the first and the last address count as taken."""

    available_ips: int = 0
    available_prefixes: int = 0
    used_ips: int = 0
    used_prefixes: int = 0


class NetworkConsumption(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Usage by address family; none where the network has no prefix of it."""

    ipv4: NetworkUsage | None = None
    ipv6: NetworkUsage | None = None


class NetworkCreateRequest(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A network that an administrator creates.

    Attributes:
        networktype: Empty: derived from the flags; otherwise it must agree with them.
    """

    id: str | None = None
    name: str | None = None
    description: str | None = None
    prefixes: GivenCidrs
    destinationprefixes: GivenCidrs | None = None
    defaultchildprefixlength: dict[str, int] | None = None
    partitionid: str | None = None
    projectid: str | None = None
    parentnetworkid: str | None = None
    labels: dict[str, str] | None = None
    nat: bool | None = None
    nattype: str | None = None
    networktype: str | None = None
    privatesuper: bool | None = None
    underlay: bool | None = None
    shared: bool | None = None
    vrf: int | None = None
    vrfshared: bool | None = None
    additional_announcable_cidrs: GivenCidrs | None = msgspec.field(
        name="additionalAnnouncableCIDRs", default=None
    )


class NetworkAllocateRequest(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A network that a project cuts from its partition's super network."""

    name: str | None = None
    description: str | None = None
    projectid: str | None = None
    partitionid: str | None = None
    addressfamily: str | None = None
    length: dict[str, int] | None = None
    destinationprefixes: GivenCidrs | None = None
    labels: dict[str, str] | None = None
    nat: bool | None = None
    shared: bool | None = None


class NetworkUpdateRequest(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What shall become of a network; absent fields stay as they are."""

    id: str
    name: str | None = None
    description: str | None = None
    prefixes: GivenCidrs | None = None
    destinationprefixes: GivenCidrs | None = None
    defaultchildprefixlength: dict[str, int] | None = None
    labels: dict[str, str] | None = None
    shared: bool | None = None
    additional_announcable_cidrs: GivenCidrs | None = msgspec.field(
        name="additionalAnnouncableCIDRs", default=None
    )


class NetworkFindRequest(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Networks that have all of these; lists and labels must be contained."""

    id: str | None = None
    name: str | None = None
    addressfamily: str | None = None
    partitionid: str | None = None
    projectid: str | None = None
    parentnetworkid: str | None = None
    prefixes: GivenCidrs | None = None
    destinationprefixes: GivenCidrs | None = None
    labels: dict[str, str] | None = None
    nat: bool | None = None
    privatesuper: bool | None = None
    underlay: bool | None = None
    vrf: int | None = None


class NetworkResponse(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A network as answered."""

    id: str
    name: str
    description: str
    created: datetime
    changed: datetime
    prefixes: Cidrs
    destinationprefixes: Cidrs
    defaultchildprefixlength: dict[str, int] | None = None
    partitionid: str | None = None
    projectid: str | None = None
    parentnetworkid: str | None = None
    labels: dict[str, str]
    nat: bool
    nattype: str
    networktype: str
    privatesuper: bool
    underlay: bool
    shared: bool
    vrf: int
    vrfshared: bool
    consumption: NetworkConsumption
    usage: NetworkUsage
    additional_announcable_cidrs: Cidrs | None = msgspec.field(
        name="additionalAnnouncableCIDRs", default=None
    )
