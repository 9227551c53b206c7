# SPDX-License-Identifier: Apache-2.0
"""What can be asked of an allocation, before anybody looks which machine there is for it."""

import base64
import binascii
import ipaddress
import itertools
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.model.firewall_rules import FirewallRules
from metropolis.metal.model.machine import (
    TAG_ASN,
    TAG_CHASSIS,
    TAG_RACK,
    MachineRole,
)
from metropolis.metal.model.machine_network import MachineAllocationNetwork, MachineNetwork
from metropolis.metal.model.machine_request import FirewallCreateRequest, MachineAllocateRequest
from metropolis.metal.model.partition import DNSServer, NTPServer
from metropolis.metal.rules.firewall import parse_rules
from metropolis.metal.rules.name_servers import check_dns_servers, check_ntp_servers

HOSTNAME_DEFAULT: Final = "metal"
_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_NAME_LENGTH_MAX: Final = 253
_KEY_KIND: Final = re.compile(
    r"ssh-(rsa|dss|ed25519)|ecdsa-sha2-nistp(256|384|521)"
    r"|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationSpec:
    """A request that was judged.

    Attributes:
        machine_id: This machine and no other; empty: any of the partition and size.
        layout_id: Empty: the one that size and image ask for.
    """

    role: MachineRole
    project_id: str
    partition_id: str
    size_id: str
    machine_id: str
    image_id: str
    name: str
    hostname: str
    description: str
    layout_id: str
    ssh_pub_keys: tuple[str, ...]
    user_data: str
    tags: tuple[str, ...]
    placement_tags: tuple[str, ...]
    networks: tuple[MachineAllocationNetwork, ...]
    ips: tuple[str, ...]
    dns_servers: tuple[DNSServer, ...]
    ntp_servers: tuple[NTPServer, ...]
    firewall_rules: FirewallRules | None


def parse_allocation(request: MachineAllocateRequest, role: MachineRole) -> AllocationSpec:
    """Judge a request.

    Raises:
        InvalidArgumentError: naming the field that cannot be.
    """
    machine_id = request.uuid or ""
    required = {"projectid": request.project_id, "imageid": request.image_id}
    required |= {"partitionid": request.partition_id, "sizeid": request.size_id}
    for field, value in required.items():
        if not value and not (machine_id and field in {"partitionid", "sizeid"}):
            raise InvalidArgumentError(f"{field}: it is empty", remedy=f"Give a {field}.")
    networks, ips = request.networks or (), request.ips or ()
    _check_networks(role, networks, ips)
    dns_servers, ntp_servers = request.dns_servers or (), request.ntp_servers or ()
    check_dns_servers(dns_servers)
    check_ntp_servers(ntp_servers)
    rules = request.firewall_rules if isinstance(request, FirewallCreateRequest) else None
    return AllocationSpec(
        role=role,
        project_id=request.project_id,
        partition_id=request.partition_id,
        size_id=request.size_id,
        machine_id=machine_id,
        image_id=request.image_id,
        name=request.name or "",
        hostname=_hostname(request.hostname or HOSTNAME_DEFAULT),
        description=request.description or "",
        layout_id=request.filesystemlayout_id or "",
        ssh_pub_keys=parse_ssh_keys(request.ssh_pub_keys or ()),
        user_data=request.user_data or "",
        tags=tuple(sorted(set(request.tags or ()))),
        placement_tags=tuple(sorted(set(request.placement_tags or ()))),
        networks=networks,
        ips=ips,
        dns_servers=dns_servers,
        ntp_servers=ntp_servers,
        firewall_rules=parse_rules(rules),
    )


def _check_networks(
    role: MachineRole, networks: tuple[MachineAllocationNetwork, ...], ips: tuple[str, ...]
) -> None:
    if not networks:
        raise InvalidArgumentError(
            "networks: a machine is in at least one", remedy="Name a private network."
        )
    for address in ips:
        _check_address("ips", address)
    without = [each.networkid for each in networks if each.autoacquire is False]
    if role == "firewall" and not ips and len(without) == len(networks):
        raise InvalidArgumentError(
            "networks: a firewall needs an address",
            remedy="Name an address in ips, or let one be acquired in one of the networks.",
        )
    if len(without) > len(ips):
        raise InvalidArgumentError(
            f"ips: {len(without)} networks acquire no address, and {len(ips)} are named",
            remedy="Name an address for each network that acquires none.",
        )


def _check_address(field: str, text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise InvalidArgumentError(
            f"{field}: {text[:60]!r} is no IP address", remedy="Give an IPv4 or IPv6 address."
        ) from None


def _is_host_name(text: str) -> bool:
    return len(text) <= _NAME_LENGTH_MAX and all(
        _LABEL.fullmatch(label) is not None for label in text.split(".")
    )


def _hostname(text: str) -> str:
    if not _is_host_name(text):
        raise InvalidArgumentError(
            f"hostname: {text[:80]!r} is none",
            remedy="Use letters, digits and dashes, at most 63 between two dots.",
        )
    return text


def parse_ssh_keys(lines: Iterable[str]) -> tuple[str, ...]:
    """Judge public keys as `authorized_keys` has them, one a line, options in front allowed.

    Raises:
        InvalidArgumentError: a line is none.
    """
    found = tuple(line.strip() for line in lines)
    for index, line in enumerate(found):
        if "\n" in line or not _is_ssh_key(line):
            raise InvalidArgumentError(
                f"ssh_pub_keys[{index}]: it is no public key",
                remedy="Give the content of a file like ~/.ssh/id_ed25519.pub.",
            )
    return found


def _is_ssh_key(line: str) -> bool:
    words = line.split()
    for kind, encoded in itertools.pairwise(words):
        if _KEY_KIND.fullmatch(kind) is None:
            continue
        try:
            raw = base64.b64decode(encoded, validate=True)
            (length,) = struct.unpack_from(">I", raw)
        except (binascii.Error, struct.error):
            return False
        return raw[4 : 4 + length] == kind.encode() and len(raw) > 4 + length
    return False


def with_system_tags(
    tags: Iterable[str],
    *,
    rack_id: str,
    chassis_serial: str,
    networks: Iterable[MachineNetwork],
) -> tuple[str, ...]:
    """Add to the tags of a user those that the system keeps on every allocated machine.

    They win over tags of users with the same key. The order is that of the alphabet.
    """
    primary = next((each for each in networks if each.primary), None)
    system: dict[str, str] = {}
    if primary is not None:
        system[TAG_ASN] = str(primary.asn)
    if rack_id:
        system[TAG_RACK] = rack_id
    if chassis_serial:
        system[TAG_CHASSIS] = chassis_serial
    reserved = {TAG_ASN, TAG_RACK, TAG_CHASSIS}
    kept = {tag for tag in tags if tag.partition("=")[0] not in reserved}
    return tuple(sorted(kept | {f"{key}={value}" for key, value in system.items()}))
