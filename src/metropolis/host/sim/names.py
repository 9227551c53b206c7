# SPDX-License-Identifier: Apache-2.0
"""Host name and static names of a machine that does not exist."""

import ipaddress
from collections.abc import Mapping
from typing import final

from metropolis.base.names import domain_name_problem


@final
class SimNames:
    """Remembers what it was told.

    Attributes:
        host_name: The last name set, empty before.
        hosts: Name -> literal IP address, as last set.
    """

    def __init__(self) -> None:
        self.host_name = ""
        self.hosts: Mapping[str, str] = {}

    async def set_host_name(self, name: str) -> None:
        _check_name(name)
        self.host_name = name

    async def set_hosts(self, addresses: Mapping[str, str]) -> None:
        for name, address in addresses.items():
            _check_name(name)
            ipaddress.ip_address(address)  # raises ValueError, as the real one does
        self.hosts = dict(sorted(addresses.items()))


def _check_name(name: str) -> None:
    if domain_name_problem(name.lower()) is not None:
        raise ValueError(f"{name!r} is not a host name")
