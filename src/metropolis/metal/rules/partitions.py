# SPDX-License-Identifier: Apache-2.0
"""What a partition may look like."""

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.model.partition import Partition
from metropolis.metal.rules.name_servers import (
    check_dns_servers,
    check_ntp_servers,
    is_address,
    is_host_name,
)

_TCP_PORT_MAX = 65535


def validate(partition: Partition) -> None:
    """Judge a partition by itself.

    Raises:
        InvalidArgumentError: which field is wrong, and why.
    """
    check_dns_servers(partition.dns_servers)
    check_ntp_servers(partition.ntp_servers)
    if partition.management_address:
        _check_management_address(partition.management_address)


def _check_management_address(text: str) -> None:
    host, _colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    good = (is_address(bare) and (bare != host or ":" not in host)) or is_host_name(host)
    if not (good and port.isascii() and port.isdigit() and 0 < int(port[:6]) <= _TCP_PORT_MAX):
        raise InvalidArgumentError(
            f"mgmtserviceaddress: {text[:80]!r} is not <host>:<port>",
            remedy="Name host and TCP port of the partition's console service, "
            "for example 10.0.0.1:50005 or [2001:db8::1]:50005.",
        )
