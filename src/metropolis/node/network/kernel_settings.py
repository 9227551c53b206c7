# SPDX-License-Identifier: Apache-2.0
"""The kernel's switches for the network. Source: the operating system's reference, sysctls."""

from collections.abc import Mapping
from typing import Final

from metropolis.base.errors import MetropolisError
from metropolis.host.network import KernelSettings
from metropolis.supervision import Logger

EARLY: Final[Mapping[str, str]] = {  # before a link goes up
    "net/ipv4/conf/all/rp_filter": "1",  # no packets whose answers would leave elsewhere
    "net/ipv4/conf/all/accept_source_route": "0",
    "net/ipv4/conf/all/accept_redirects": "0",
    "net/ipv6/conf/all/accept_redirects": "0",
    "net/ipv6/conf/all/accept_ra": "0",  # only where it is configured
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv6/conf/all/keep_addr_on_down": "1",
    "net/ipv6/conf/all/ndisc_tclass": "224",  # DSCP CS7: neighbours must be found on full links
}
LATE: Final[Mapping[str, str]] = {
    "net/ipv4/ip_forward": "1",
    "net/core/rmem_max": "16777216",
    "net/core/wmem_max": "16777216",
    "net/ipv4/tcp_rmem": "4096 87380 16777216",
    "net/ipv4/tcp_wmem": "4096 87380 16777216",
}


def write_settings(
    wanted: Mapping[str, str], *, settings: KernelSettings, log: Logger | None = None
) -> None:
    """Set switches. What this kernel does not have is said, if there is a log, and left."""
    for name, value in wanted.items():
        try:
            settings.write(name, value)
        except MetropolisError as error:
            if log is not None:
                log.warning("%s", error)
