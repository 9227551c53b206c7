# SPDX-License-Identifier: Apache-2.0
"""chronyd's configuration. Pure. Source: `man 5 chrony.conf`."""

import ipaddress
from collections.abc import Sequence
from typing import Final

from metropolis.base.names import domain_name_problem

CONFIGURATION_FILE: Final = "chrony.conf"
PID_FILE: Final = "chronyd.pid"
DEFAULT_POOL: Final = "pool.ntp.org"
_SERVERS_MAX: Final = 8
_POOL_SOURCES: Final = 4
_SETTINGS: Final = """\
# A clock that is more than two seconds wrong jumps, but only at first; later it is pulled.
makestep 2.0 3
maxslewrate 10000
stratumweight 0.01
leapsecmode slew
# The hardware clock follows.
rtconutc
rtcsync
# It serves nobody and listens to nobody.
port 0
cmdport 0
bindcmdaddress /
"""


def configuration(*, servers: Sequence[str], pools: Sequence[str], pid_path: str) -> str:
    """Spell chronyd's configuration.

    Args:
        servers: Literal IP addresses that the network recommends. A site that names time servers
            means them: the pools are used only where there are none.
        pools: Names of pools.
        pid_path: Where it writes its process id; it insists on writing it somewhere.
    """
    assert all(domain_name_problem(pool) is None for pool in pools)
    lines = ["# Written by the node."]
    lines += [f"server {ipaddress.ip_address(each)} iburst" for each in servers[:_SERVERS_MAX]]
    if not servers:
        lines += [f"pool {each} iburst maxsources {_POOL_SOURCES}" for each in pools]
    return "\n".join(lines) + "\n" + _SETTINGS + f"pidfile {pid_path}\n"


def arguments(program: str, *, path: str, user: str, sets_clock: bool) -> Sequence[str]:
    """Return how chronyd is run: in the foreground, as a user without rights, with few syscalls."""
    flags = [] if sets_clock else ["-x"]
    return [program, "-d", "-F", "1", "-u", user, *flags, "-f", path]
