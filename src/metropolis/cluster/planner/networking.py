# SPDX-License-Identifier: Apache-2.0
"""What a node may announce about itself: its address, its WireGuard key, its prefixes. Pure."""

import base64
import binascii
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from metropolis.api.common_pb2 import NodeClusterNetworking, NodeStatus
from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError

CLUSTER_NETWORK: Final = IPv4Network("10.192.0.0/11")
WIREGUARD_KEY_BYTES: Final = 32
PREFIXES_MAX: Final = 64  # a node has one pod prefix and one address per family
BOOT_ID_BYTES: Final = 16
COMMIT_HASH_CHARS_MIN: Final = 8  # clients of the original print the first eight, unchecked
STATUS_BYTES_MAX: Final = 4096
_SHOWN_CHARS_MAX: Final = 64
_TCP_PORT_MAX: Final = 65535


def check_status(status: NodeStatus) -> None:
    """Check what a node reports about itself.

    Raises:
        InvalidArgumentError: no literal IP address, or a field that clients could not read.
    """
    if not is_address(status.external_address):
        raise InvalidArgumentError(
            f"external_address {status.external_address[:_SHOWN_CHARS_MAX]!r} is not an IP address",
            remedy="Report the literal address at which other nodes reach this one.",
        )
    if status.boot_id and len(status.boot_id) != BOOT_ID_BYTES:
        raise InvalidArgumentError(
            f"boot_id has {len(status.boot_id)} bytes, not {BOOT_ID_BYTES}",
            remedy="Send the 16 bytes that are new at every start, or none.",
        )
    commit_hash = status.version.git_information.commit_hash
    if commit_hash and len(commit_hash) < COMMIT_HASH_CHARS_MIN:
        raise InvalidArgumentError(
            f"commit_hash has {len(commit_hash)} characters, "
            f"fewer than the {COMMIT_HASH_CHARS_MIN} that clients print",
            remedy="Send the whole hash, or none.",
        )
    if not 0 <= status.running_curator.port <= _TCP_PORT_MAX:
        raise InvalidArgumentError(
            f"{status.running_curator.port} is not a TCP port", remedy="Send the curator's port."
        )
    if status.ByteSize() > STATUS_BYTES_MAX:
        raise InvalidArgumentError(
            f"a status of {status.ByteSize()} bytes is longer than {STATUS_BYTES_MAX}",
            remedy="Shorten the version.",
        )


def is_address(text: str) -> bool:
    """Whether `text` is a literal IP address without a zone."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def wireguard_key(text: str) -> bytes:
    """Read a WireGuard public key.

    Raises:
        InvalidArgumentError: not the base64 form of 32 bytes.
    """
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != WIREGUARD_KEY_BYTES or base64.b64encode(key).decode("ascii") != text:
        raise InvalidArgumentError(
            "wireguard_pubkey is not the base64 form of 32 bytes",
            remedy="Send the key as `wg pubkey` prints it.",
        )
    return key


def check_networking(
    announced: NodeClusterNetworking, *, external_address: str, taken_keys: Iterable[str]
) -> None:
    """Check what a node announces.

    Args:
        external_address: What the node reported last; empty when it has not yet.
        taken_keys: WireGuard keys of the other nodes.

    Raises:
        InvalidArgumentError: a bad key or prefix, or another node's key.
        FailedPreconditionError: the node has not reported its status yet.
    """
    wireguard_key(announced.wireguard_pubkey)
    if announced.wireguard_pubkey in taken_keys:
        raise InvalidArgumentError(
            "wireguard_pubkey is already used by another node",
            remedy="Make a new key: two nodes cannot share one.",
        )
    if not external_address:
        raise FailedPreconditionError(
            "the node has not reported its status yet",
            remedy="Call UpdateNodeStatus first.",
        )
    if len(announced.prefixes) > PREFIXES_MAX:
        raise InvalidArgumentError(
            f"{len(announced.prefixes)} prefixes are more than {PREFIXES_MAX}",
            remedy="Announce the pod prefix and the node's own address.",
        )
    for prefix in announced.prefixes:
        _check_prefix(prefix.cidr, external_address)


def _check_prefix(cidr: str, external_address: str) -> None:
    shown = cidr[:_SHOWN_CHARS_MAX]
    try:
        network: IPv4Network | IPv6Network = ip_network(cidr)
    except ValueError:
        network = CLUSTER_NETWORK
        is_canonical = False
    else:
        is_canonical = str(network) == cidr
    if not is_canonical:
        raise InvalidArgumentError(
            f"prefix {shown!r} is not a network in canonical form",
            remedy="Write it like 10.192.4.0/24: no bits set behind the length.",
        )
    if isinstance(network, IPv4Network) and network.subnet_of(CLUSTER_NETWORK):
        return
    is_single = network.prefixlen == network.max_prefixlen
    if is_single and network.network_address == ip_address(external_address):
        return
    raise InvalidArgumentError(
        f"prefix {shown!r} is neither inside {CLUSTER_NETWORK} nor the node's own address",
        remedy="Announce pod prefixes of the cluster network and the node's external address.",
    )
