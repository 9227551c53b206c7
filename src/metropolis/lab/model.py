# SPDX-License-Identifier: Apache-2.0
"""What a rack of the lab is. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final

from metropolis.base.errors import DataLossError, InvalidArgumentError

NODES_MAX: Final = 9
DEFAULT_NAME: Final = "metropolis"
NAMESPACE_DRIVER: Final = "namespace"
QEMU_DRIVER: Final = "qemu"
DRIVERS: Final = (QEMU_DRIVER, NAMESPACE_DRIVER)
NETWORK: Final = IPv4Network("10.1.0.0/24")
PREFIX_LENGTH: Final = NETWORK.prefixlen
OPERATOR_ADDRESS: Final = "10.1.0.1"  # the rack's own end of the network: the proxy dials from it
PROXY_TCP_PORT: Final = 1080  # asked for first; a free one is taken when somebody has it
CONSENSUS_MEMBERS_MAX: Final = 3  # tolerates one lost node; more members only cost writes
RECORD_VERSION: Final = 1

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


def check_name(name: str) -> str:
    """Return a cluster's name if it can be one.

    Raises:
        InvalidArgumentError: it cannot.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidArgumentError(
            f"{name[:64]!r} cannot be the name of a cluster",
            remedy="Use 1 to 32 of a-z, 0-9 and -, with neither end a dash.",
        )
    return name


def check_node_count(count: int) -> int:
    """Return a number of nodes if a rack can hold that many.

    Raises:
        InvalidArgumentError: it cannot.
    """
    if not 1 <= count <= NODES_MAX:
        raise InvalidArgumentError(
            f"a lab cluster has 1 to {NODES_MAX} nodes, not {count}",
            remedy=f"Give --nodes a number from 1 to {NODES_MAX}.",
        )
    return count


def check_driver(driver: str) -> str:
    """Return a driver's name if there is one of that name.

    Raises:
        InvalidArgumentError: there is none.
    """
    if driver not in DRIVERS:
        raise InvalidArgumentError(
            f"there is no driver {driver[:64]!r}",
            remedy="Use --driver qemu (virtual machines) or --driver namespace (processes).",
        )
    return driver


def address_of(number: int) -> str:
    """The literal IP address of a node of the lab, unless it was given another one."""
    return f"10.1.0.{2 + number}"


def check_address(address: str) -> str:
    """Return an address if a machine can have it.

    Raises:
        InvalidArgumentError: it cannot.
    """
    ends = (NETWORK.network_address, NETWORK.broadcast_address, IPv4Address(OPERATOR_ADDRESS))
    try:
        is_usable = (place := IPv4Address(address)) in NETWORK and place not in ends
    except ValueError:
        is_usable = False
    if not is_usable:
        raise InvalidArgumentError(
            f"{address[:64]!r} cannot be the address of a machine",
            remedy=f"Give an address of {NETWORK} other than {', '.join(map(str, ends))}.",
        )
    return address


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """What the launch asks a node to do."""

    consensus_member: bool
    kubernetes_controller: bool
    kubernetes_worker: bool


def plan_roles(count: int) -> Sequence[Roles]:
    """Decide who does what in a new cluster of `count` nodes, node 0 being its founder.

    The number of voting members is odd, because an even one tolerates no more failures than the
    odd one below it: 1 member for 1 or 2 nodes, 3 for 3 to 9. Members are Kubernetes controllers
    too, the others Kubernetes workers.
    """
    members = CONSENSUS_MEMBERS_MAX if count >= CONSENSUS_MEMBERS_MAX else 1
    return tuple(
        Roles(
            consensus_member=number < members,
            kubernetes_controller=number < members,
            kubernetes_worker=number >= members,
        )
        for number in range(count)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rack:
    """One cluster of the lab, as `cluster.json` keeps it.

    Attributes:
        proxy_tcp_port: Where the proxy listens on 127.0.0.1.
        program: What a machine runs as process 1; the node's arguments are appended.
        created: When, as text for people.
        node_ids: Node ids by node number, as far as they are known. The proxy takes them as names.
        owner_key: Raw public key of the owner in hexadecimal, once there is one. Tells whether a
            context of the operator belongs to this cluster.
        addresses: Addresses by node number, of those that do not have the usual one any more.
        is_launched: The launch has come to its end once; from then on the operator decides.
        is_blank: Its machines were made without a system: the operator installs them.
    """

    name: str
    count: int
    proxy_tcp_port: int
    program: Sequence[str]
    created: str
    driver: str = NAMESPACE_DRIVER
    node_ids: Mapping[int, str]
    owner_key: str | None = None
    is_launched: bool = False
    is_blank: bool = False
    addresses: Mapping[int, str] = field(default_factory=dict[int, str])

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        check_name(self.name)
        check_node_count(self.count)
        check_driver(self.driver)
        places = [check_address(self.address(number)) for number in self.numbers]
        if len(set(places)) < self.count or any(
            each not in self.numbers for each in self.addresses
        ):
            raise InvalidArgumentError(
                f"the machines cannot have the addresses {', '.join(places)}",
                remedy="Give every machine of the rack an address of its own.",
            )

    @property
    def numbers(self) -> Sequence[int]:
        """The node numbers, from 0."""
        return range(self.count)

    def address(self, number: int) -> str:
        """The literal IP address of a node."""
        return self.addresses.get(number, address_of(number))

    def readdressed(self, number: int, address: str) -> "Rack":
        """The same rack with another address for one node.

        Raises:
            InvalidArgumentError: no machine, or another one, can have the address.
        """
        return replace(self, addresses={**self.addresses, number: address})

    @property
    def proxy(self) -> str:
        """Where the proxy listens, as `--proxy` of `metroctl` takes it."""
        return f"127.0.0.1:{self.proxy_tcp_port}"


def rack_to_json(rack: Rack) -> Mapping[str, Any]:
    """The content of `cluster.json`."""
    return {
        "version": RECORD_VERSION,
        "name": rack.name,
        "driver": rack.driver,
        "created": rack.created,
        "proxy_tcp_port": rack.proxy_tcp_port,
        "program": list(rack.program),
        "owner_key": rack.owner_key,
        "launched": rack.is_launched,
        "blank": rack.is_blank,
        "nodes": [
            {"number": number, "address": rack.address(number), "id": rack.node_ids.get(number)}
            for number in rack.numbers
        ],
        "addresses": {str(number): address for number, address in rack.addresses.items()},
    }


def rack_from_json(record: Any) -> Rack:  # noqa: ANN401  # JSON of a file
    """Read the content of `cluster.json`.

    Raises:
        DataLossError: it is not what we wrote.
    """
    try:
        if record["version"] != RECORD_VERSION:
            raise ValueError("written by another version")
        return Rack(
            name=record["name"],
            driver=record["driver"],
            created=str(record["created"]),
            proxy_tcp_port=int(record["proxy_tcp_port"]),
            program=tuple(str(word) for word in record["program"]),
            count=len(record["nodes"]),
            owner_key=None if record["owner_key"] is None else str(record["owner_key"]),
            is_launched=bool(record["launched"]),
            is_blank=bool(record.get("blank", False)),
            node_ids={
                number: str(node["id"])
                for number, node in enumerate(record["nodes"])
                if node["id"] is not None
            },
            addresses={
                int(number): str(address)
                for number, address in dict(record.get("addresses", {})).items()
            },
        )
    except (AttributeError, KeyError, TypeError, ValueError, InvalidArgumentError) as cause:
        raise DataLossError(
            "cluster.json is damaged",
            remedy="Delete the cluster with `metropolis destroy`, then launch a new one.",
        ) from cause
