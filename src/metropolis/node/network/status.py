# SPDX-License-Identifier: Apache-2.0
"""What the rest of a machine may know about its network."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkStatus:
    """A network that works. Published as `Value[NetworkStatus | None]`: None while there is none.

    Attributes:
        addresses: Literal IP addresses of this machine, the external one first; never empty.
        name_servers: Literal IP addresses, the preferred one first.
        time_servers: Literal IP addresses that the network recommends for NTP.
    """

    addresses: Sequence[str]
    name_servers: Sequence[str] = ()
    time_servers: Sequence[str] = ()
