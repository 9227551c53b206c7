# SPDX-License-Identifier: Apache-2.0
"""What networks there may be: kinds, what each kind needs, how children are cut."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import get_args

import msgspec

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.metal.model.network import (
    NatKind,
    Network,
    NetworkAllocateRequest,
    NetworkCreateRequest,
    NetworkKind,
    NetworkUpdateRequest,
)
from metropolis.metal.rules.addresses import (
    FAMILIES,
    AddressFamily,
    families_of,
    family_of,
    overlaps,
    parse_family,
    parse_prefix,
    parse_prefixes,
)

VRF_MAX = 131_072
ADDRESS_BITS: Mapping[AddressFamily, int] = {"IPv4": 32, "IPv6": 128}


def root_kind(request: NetworkCreateRequest) -> NetworkKind:
    """The kind of a network that is cut from no other, from its flags.

    Raises:
        InvalidArgumentError: the flags contradict each other or the kind that was named.
    """
    if request.privatesuper and request.underlay:
        raise InvalidArgumentError(
            "privatesuper, underlay: a network is only one of them",
            remedy="Set one of the two, or none for an external network.",
        )
    derived: NetworkKind = "external"
    if request.privatesuper:
        derived = "super"
    elif request.underlay:
        derived = "underlay"
    named = request.networktype or derived
    if named not in get_args(NetworkKind):
        raise InvalidArgumentError(
            f"networktype: {named[:80]!r} is not a type of network",
            remedy=f"Use one of {', '.join(get_args(NetworkKind))}, or leave it empty.",
        )
    if named in {"child", "child-shared"} or request.parentnetworkid:
        raise InvalidArgumentError(
            "networktype, parentnetworkid: a child is cut from its partition's super network",
            remedy="Allocate the network (POST /v1/network/allocate) instead of creating it.",
        )
    if named == "super-namespaced":
        raise InvalidArgumentError(
            "networktype: super networks with overlapping children are not offered",
            remedy="Use super.",
        )
    flags_given = request.privatesuper is not None or request.underlay is not None
    if named != derived and flags_given:
        raise InvalidArgumentError(
            f"networktype: {named!r} contradicts the flags, which make it {derived!r}",
            remedy="Make privatesuper and underlay agree with it, or leave it empty.",
        )
    return "super" if named == "super" else "underlay" if named == "underlay" else "external"


def nat_kind(*, nat: bool | None, named: str | None) -> NatKind:
    """How packets that leave a network are translated.

    Raises:
        InvalidArgumentError: the name is unknown or contradicts the flag.
    """
    if not named:
        return "ipv4-masq" if nat else "none"
    if named not in {"none", "ipv4-masq"}:
        raise InvalidArgumentError(
            f"nattype: {named[:80]!r} is not a type of translation",
            remedy="Use none or ipv4-masq, or leave it empty.",
        )
    if nat is not None and nat != (named != "none"):
        raise InvalidArgumentError(
            f"nattype: {named!r} contradicts nat={str(nat).lower()}",
            remedy="Make both agree, or leave nattype empty.",
        )
    return "ipv4-masq" if named == "ipv4-masq" else "none"


def plan_root(request: NetworkCreateRequest) -> Network:
    """Judge a request for a network that is cut from no other.

    What the store must know (other networks, the partition, the project) is not judged here.

    Raises:
        InvalidArgumentError: the request can never succeed, naming the field.
    """
    kind = root_kind(request)
    prefixes = check_prefixes(request.prefixes)
    nat = nat_kind(nat=request.nat, named=request.nattype)
    if kind != "external" and nat != "none":
        raise InvalidArgumentError(
            "nat: neither a super network nor an underlay translates addresses",
            remedy="Leave nat out; networks cut from the super network may have it.",
        )
    if kind != "external" and not request.partitionid:
        raise InvalidArgumentError(
            f"partitionid: a network of type {kind} belongs to a partition",
            remedy="Name the partition.",
        )
    vrf = request.vrf or 0
    if not 0 <= vrf <= VRF_MAX:
        raise InvalidArgumentError(
            f"vrf: {vrf} is no VRF number", remedy=f"Use 1 to {VRF_MAX}, or leave it out."
        )
    return Network(
        name=request.name or "",
        description=request.description or "",
        prefixes=prefixes,
        destination_prefixes=check_destinations(request.destinationprefixes or (), prefixes),
        child_prefix_length=check_child_lengths(
            request.defaultchildprefixlength, prefixes, kind=kind
        ),
        partition_id=request.partitionid or "",
        project_id=request.projectid or "",
        vrf=vrf,
        vrf_shared=bool(request.vrfshared),
        labels=request.labels or {},
        kind=kind,
        nat_kind=nat,
        shared=bool(request.shared),
        additional_announcable_cidrs=check_announcable(
            request.additional_announcable_cidrs, kind=kind
        ),
    )


def check_prefixes(texts: Sequence[str]) -> tuple[str, ...]:
    """Judge the prefixes of one network: some, and no two that overlap."""
    prefixes = parse_prefixes(texts, field="prefixes")
    if not prefixes:
        raise InvalidArgumentError(
            "prefixes: a network has at least one", remedy="Name at least one prefix."
        )
    for one, other in pairwise(sorted(prefixes, key=_place)):
        # In this order a prefix comes right before the first of those inside of it.
        if overlaps(one, other):
            raise InvalidArgumentError(
                f"prefixes: {one} and {other} overlap", remedy="Name each address only once."
            )
    return prefixes


def _place(prefix: str) -> tuple[int, int, int]:
    network = parse_prefix(prefix, field="prefixes")
    return network.version, int(network.network_address), network.prefixlen


def check_destinations(texts: Sequence[str], prefixes: Sequence[str]) -> tuple[str, ...]:
    """Judge destination prefixes: only of families that the network itself has."""
    destinations = parse_prefixes(texts, field="destinationprefixes")
    families = families_of(prefixes)
    for each in destinations:
        if family_of(each) not in families:
            raise InvalidArgumentError(
                f"destinationprefixes: {each} is {family_of(each)}, and the network is not",
                remedy=f"Add a prefix of {family_of(each)}, or leave the destination out.",
            )
    return destinations


def check_announcable(texts: Sequence[str] | None, *, kind: NetworkKind) -> tuple[str, ...]:
    """Judge what machines may announce beside their own addresses: of super networks only."""
    if texts and kind != "super":
        raise InvalidArgumentError(
            "additionalAnnouncableCIDRs: only a private super network has them",
            remedy="Set them on the partition's super network.",
        )
    return parse_prefixes(texts or (), field="additionalAnnouncableCIDRs")


def check_child_lengths(
    lengths: Mapping[str, int] | None, prefixes: Sequence[str], *, kind: NetworkKind
) -> dict[str, int]:
    """Judge the bits of children's prefixes: for each family of a super network, else none."""
    if kind != "super":
        if lengths:
            raise InvalidArgumentError(
                "defaultchildprefixlength: only a private super network has children",
                remedy="Leave it out.",
            )
        return {}
    found = parse_lengths(lengths or {}, field="defaultchildprefixlength")
    for family in families_of(prefixes):
        if family not in found:
            raise InvalidArgumentError(
                f"defaultchildprefixlength: none is given for {family}",
                remedy="Give a length for each address family of the prefixes.",
            )
    for family, length in found.items():
        mine = [each for each in prefixes if family_of(each) == family]
        if not mine:
            raise InvalidArgumentError(
                f"defaultchildprefixlength: the network has no prefix of {family}",
                remedy="Leave that family out, or add a prefix of it.",
            )
        for each in mine:
            check_child_fits(length, each, field="defaultchildprefixlength")
    return {str(family): length for family, length in found.items()}


def check_child_fits(length: int, prefix: str, *, field: str) -> None:
    """Refuse children that are not smaller than what they are cut from."""
    parent = parse_prefix(prefix, field="prefixes")
    if not parent.prefixlen < length <= parent.max_prefixlen:
        raise InvalidArgumentError(
            f"{field}: {length} bits cannot be cut from {prefix}",
            remedy=f"Use {parent.prefixlen + 1} to {parent.max_prefixlen} bits.",
        )


def parse_lengths(lengths: Mapping[str, int], *, field: str) -> dict[AddressFamily, int]:
    """Read lengths by family, in the order of the families."""
    found: dict[AddressFamily, int] = {
        parse_family(name, field=field): bits for name, bits in lengths.items()
    }
    for family, bits in found.items():
        if not 0 < bits <= ADDRESS_BITS[family]:
            raise InvalidArgumentError(
                f"{field}: {bits} is no prefix length of {family}",
                remedy=f"Use 1 to {ADDRESS_BITS[family]} bits.",
            )
    return {family: found[family] for family in FAMILIES if family in found}


def plan_child(request: NetworkAllocateRequest, parent: Network) -> dict[AddressFamily, int]:
    """The prefixes to cut for a child: bits by family.

    Raises:
        InvalidArgumentError: a family or a length does not fit the super network.
    """
    lengths: dict[AddressFamily, int] = {
        parse_family(name, field="defaultchildprefixlength"): bits
        for name, bits in parent.child_prefix_length.items()
    }
    wished = parse_lengths(request.length or {}, field="length")
    for family in wished:
        if family not in lengths:
            raise InvalidArgumentError(
                f"length: the partition's super network has no prefix of {family}",
                remedy=f"Use {' or '.join(lengths)}.",
            )
    lengths |= wished
    if request.addressfamily:
        only = parse_family(request.addressfamily, field="addressfamily")
        if only not in lengths:
            raise InvalidArgumentError(
                f"addressfamily: the partition's super network has no prefix of {only}",
                remedy=f"Use {' or '.join(lengths)}.",
            )
        lengths = {only: lengths[only]}
    for family, bits in lengths.items():
        fitting = [
            each
            for each in parent.prefixes
            if family_of(each) == family and parse_prefix(each, field="prefixes").prefixlen < bits
        ]
        if not fitting:
            raise InvalidArgumentError(
                f"length: {bits} bits of {family} cannot be cut from the super network",
                remedy="Use more bits than the super network's prefixes have.",
            )
    return lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkChange:
    """What a network becomes, and what that asks of the address books."""

    network: Network
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def plan_update(old: Network, request: NetworkUpdateRequest, *, force: bool) -> NetworkChange:
    """Judge a change of a network; absent fields stay.

    Raises:
        InvalidArgumentError: the request can never succeed, naming the field.
        FailedPreconditionError: it needs to be forced, or takes back what cannot be.
    """
    if request.shared is False and old.shared:
        raise FailedPreconditionError(
            "shared: once shared, a network cannot be taken back from those who use it",
            remedy="Allocate a new network that is not shared.",
        )
    prefixes = old.prefixes if request.prefixes is None else check_prefixes(request.prefixes)
    if old.private and prefixes != old.prefixes:
        raise InvalidArgumentError(
            "prefixes: those of a child network are cut from its parent",
            remedy="Allocate another network.",
        )
    lengths = old.child_prefix_length
    if request.defaultchildprefixlength is not None or prefixes != old.prefixes:
        given = request.defaultchildprefixlength
        lengths = check_child_lengths(lengths if given is None else given, prefixes, kind=old.kind)
    announcable = old.additional_announcable_cidrs
    if request.additional_announcable_cidrs is not None:
        announcable = check_announcable(request.additional_announcable_cidrs, kind=old.kind)
        gone = [each for each in old.additional_announcable_cidrs if each not in announcable]
        if gone and not force:
            raise FailedPreconditionError(
                f"additionalAnnouncableCIDRs: {', '.join(gone)} may be announced by machines now",
                remedy="Repeat the request with force=true to take it from them.",
            )
    destinations = old.destination_prefixes
    if request.destinationprefixes is not None or prefixes != old.prefixes:
        destinations = check_destinations(
            destinations if request.destinationprefixes is None else request.destinationprefixes,
            prefixes,
        )
    shared = old.shared or bool(request.shared)
    changed = msgspec.structs.replace(
        old,
        name=old.name if request.name is None else request.name,
        description=old.description if request.description is None else request.description,
        labels=old.labels if request.labels is None else request.labels,
        shared=shared,
        kind="child-shared" if shared and old.kind == "child" else old.kind,
        prefixes=prefixes,
        destination_prefixes=destinations,
        child_prefix_length=lengths,
        additional_announcable_cidrs=announcable,
    )
    return NetworkChange(
        network=changed,
        added=tuple(each for each in prefixes if each not in old.prefixes),
        removed=tuple(each for each in old.prefixes if each not in prefixes),
    )
