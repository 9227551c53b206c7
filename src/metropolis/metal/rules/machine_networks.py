# SPDX-License-Identifier: Apache-2.0
"""Which networks a machine may be in, and where it gets which addresses."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from metropolis.metal.model.ip import IP
from metropolis.metal.model.machine_network import MachineAllocationNetwork
from metropolis.metal.model.network import Network
from metropolis.metal.rules.addresses import AddressFamily, families_of

MachineRole = Literal["machine", "firewall"]
NetworkType = Literal[
    "privateprimaryunshared",
    "privateprimaryshared",
    "privatesecondaryshared",
    "external",
    "underlay",
]
# What one machine may ask for; more is a mistake, and judging it would take long.
NETWORKS_MAX = 100
IPS_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachPlan:
    """What a machine that is being allocated asks of the networks.

    Attributes:
        networks: As named in the request, at least one.
        ips: Addresses that the project holds already, as named in the request.
    """

    machine_id: str
    machine_name: str
    project_id: str
    partition_id: str
    role: MachineRole
    networks: Sequence[MachineAllocationNetwork]
    ips: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkUse:
    """A network that a machine will be in.

    Attributes:
        given: Addresses of the request that lie in it.
        acquired: Families of which it gets one new address each.
    """

    network_id: str
    type: NetworkType
    given: tuple[str, ...] = ()
    acquired: tuple[AddressFamily, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fabric:
    """What there is, as far as a plan may name it.

    Attributes:
        networks: By id; those named, and the partition's underlay.
        ips: By address, those named.
        underlays: Ids of the underlays of the partition.
    """

    networks: Mapping[str, Network]
    ips: Mapping[str, IP] = field(default_factory=dict[str, IP])
    underlays: Sequence[str] = ()


def check_bounds(plan: AttachPlan) -> None:
    """Refuse a plan of a size that nobody means.

    Raises:
        InvalidArgumentError: too much is named.
    """
    for field_name, count, limit in (
        ("networks", len(plan.networks), NETWORKS_MAX),
        ("ips", len(plan.ips), IPS_MAX),
    ):
        if count > limit:
            raise InvalidArgumentError(
                f"{field_name}: {count} are named, more than {limit}", remedy="Name fewer."
            )


def plan_networks(plan: AttachPlan, fabric: Fabric) -> tuple[NetworkUse, ...]:
    """Judge what a machine asks for, and say what it gets: private networks first, primary ahead.

    Raises:
        InvalidArgumentError: the request can never succeed.
        NotFoundError: it names a network or an address that does not exist.
        FailedPreconditionError: a network or an address is not one that this machine may have.
    """
    named = _named(plan.networks)
    automatic = {each.networkid: each.autoacquire is not False for each in plan.networks}
    networks = {each: _usable(each, plan, fabric) for each in named}
    given = _given(plan, fabric, networks)
    _check_automatic(plan, networks, automatic, given)
    primary = _primary(plan, networks)
    types: dict[str, NetworkType] = {primary: _primary_type(networks[primary])}
    for each in sorted(named, key=lambda each: not networks[each].private):
        kind: NetworkType = "privatesecondaryshared" if networks[each].private else "external"
        types.setdefault(each, kind)
    uses = [_use(each, kind, networks, automatic, given) for each, kind in types.items()]
    if plan.role == "firewall":
        uses.append(_underlay(plan, fabric))
    return tuple(uses)


def _named(networks: Iterable[MachineAllocationNetwork]) -> tuple[str, ...]:
    names = [each.networkid for each in networks]
    if not names:
        raise InvalidArgumentError(
            "networks: a machine is in at least one", remedy="Name a private network."
        )
    for name, count in Counter(names).items():
        if count > 1:
            raise InvalidArgumentError(
                f"networks: {name[:80]!r} is named more than once", remedy="Name it once."
            )
    return tuple(names)


def _usable(network_id: str, plan: AttachPlan, fabric: Fabric) -> Network:
    """A network that was named, if it is of a kind and in a place where it can be used."""
    network = fabric.networks.get(network_id)
    if network is None:
        raise NotFoundError(
            f"networks: there is no network {network_id[:80]!r}",
            remedy="List the networks and name one of them.",
        )
    if network.underlay:
        raise FailedPreconditionError(
            f"networks: {network_id} is an underlay", remedy="Leave it out; firewalls get it."
        )
    if network.private_super:
        raise FailedPreconditionError(
            f"networks: {network_id} is a super network",
            remedy="Allocate a network from it and name that.",
        )
    if network.private and network.partition_id != plan.partition_id:
        raise FailedPreconditionError(
            f"networks: {network_id} is in partition {network.partition_id}, "
            f"the machine in {plan.partition_id}",
            remedy="Name a private network of the machine's partition.",
        )
    if network.private and not network.shared and network.project_id != plan.project_id:
        raise FailedPreconditionError(
            f"networks: {network_id} belongs to another project and is not shared",
            remedy="Name a network of the project, or a shared one.",
        )
    return network


def _given(
    plan: AttachPlan, fabric: Fabric, networks: Mapping[str, Network]
) -> dict[str, tuple[str, ...]]:
    """The addresses of the request by network, if the project may use them there."""
    found: dict[str, tuple[str, ...]] = {}
    for address in dict.fromkeys(plan.ips):
        ip = fabric.ips.get(address)
        if ip is None:
            raise NotFoundError(
                f"ips: {address} is not allocated", remedy="Allocate the address first."
            )
        if ip.project_id != plan.project_id:
            raise FailedPreconditionError(
                f"ips: {address} belongs to another project",
                remedy="Name addresses of the machine's project.",
            )
        if ip.network_id not in networks:
            raise FailedPreconditionError(
                f"ips: {address} is in network {ip.network_id}, which the machine is not in",
                remedy="Name that network, too, or leave the address out.",
            )
        if ip.scope not in {"project", "machine"}:
            raise FailedPreconditionError(
                f"ips: {address} can be used by nobody", remedy="Leave it out."
            )
        found[ip.network_id] = (*found.get(ip.network_id, ()), address)
    return found


def _check_automatic(
    plan: AttachPlan,
    networks: Mapping[str, Network],
    automatic: Mapping[str, bool],
    given: Mapping[str, tuple[str, ...]],
) -> None:
    """Refuse a machine that would have no address where it needs one."""
    manual = [each for each in networks if not automatic[each]]
    if len(manual) > len(dict.fromkeys(plan.ips)):
        raise InvalidArgumentError(
            f"ips: {', '.join(manual)} acquire no address by themselves, and fewer are named",
            remedy="Name an address for each of them, or let them acquire one.",
        )
    for each in manual:
        if networks[each].private and each not in given:
            raise InvalidArgumentError(
                f"ips: the private network {each} acquires no address, and none is named",
                remedy="Name an address in it, or let it acquire one.",
            )


def _primary(plan: AttachPlan, networks: Mapping[str, Network]) -> str:
    """The private network whose VRF the machine is in."""
    private = [each for each in networks if networks[each].private]
    unshared = [each for each in private if not networks[each].shared]
    if not private:
        raise InvalidArgumentError(
            "networks: none of them is private", remedy="Name a private network of the project."
        )
    if len(unshared) > 1 or (not unshared and len(private) > 1):
        raise InvalidArgumentError(
            f"networks: {', '.join(unshared or private)} could all be the primary one",
            remedy="Name exactly one private network that is not shared, or a single shared one.",
        )
    if plan.role == "machine" and len(private) > 1:
        raise InvalidArgumentError(
            f"networks: a machine is in one private network, not in {', '.join(private)}",
            remedy="Name one; only firewalls are in shared networks beside their own.",
        )
    primary = (unshared or private)[0]
    if networks[primary].project_id != plan.project_id:
        raise FailedPreconditionError(
            f"networks: {primary} belongs to another project",
            remedy="Name a private network of the project to be the primary one.",
        )
    return primary


def _primary_type(network: Network) -> NetworkType:
    return "privateprimaryshared" if network.shared else "privateprimaryunshared"


def _use(
    network_id: str,
    kind: NetworkType,
    networks: Mapping[str, Network],
    automatic: Mapping[str, bool],
    given: Mapping[str, tuple[str, ...]],
) -> NetworkUse:
    mine = given.get(network_id, ())
    acquires = automatic[network_id] and not mine
    return NetworkUse(
        network_id=network_id,
        type=kind,
        given=mine,
        acquired=families_of(networks[network_id].prefixes) if acquires else (),
    )


def _underlay(plan: AttachPlan, fabric: Fabric) -> NetworkUse:
    if len(fabric.underlays) != 1:
        raise FailedPreconditionError(
            f"partition {plan.partition_id} has {len(fabric.underlays)} underlay networks",
            remedy="Create exactly one underlay network in the partition; firewalls need it.",
        )
    (underlay,) = fabric.underlays
    return NetworkUse(
        network_id=underlay,
        type="underlay",
        acquired=families_of(fabric.networks[underlay].prefixes),
    )
