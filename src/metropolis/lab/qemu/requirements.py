# SPDX-License-Identifier: Apache-2.0
"""What virtual machines need of this computer, looked for before anything is made."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from metropolis.base.errors import FailedPreconditionError
from metropolis.lab.qemu.arguments import MEMORY_MIB, QEMU, SWTPM
from metropolis.lab.qemu.dhcp import PROGRAM as DNSMASQ

# Program -> the Debian package that brings it.
PROGRAMS: Final[Mapping[str, str]] = {
    QEMU: "qemu-system-x86",
    SWTPM: "swtpm",
    "swtpm_setup": "swtpm-tools",
    "swtpm_localca": "swtpm-tools",
    DNSMASQ: "dnsmasq-base",
}
_SYSTEM_PATHS: Final = "/usr/local/sbin:/usr/sbin:/sbin"
_TUN: Final = Path("/dev/net/tun")
_MEMORY: Final = Path("/proc/meminfo")
_USED_MIB: Final = 640  # of a machine's memory; the rest it does not touch soon

Find = Callable[[str], str | None]


def program_path(environment: Mapping[str, str]) -> str:
    """Where to look for programs: a user's PATH often lacks where the system's are."""
    return f"{environment.get('PATH', os.defpath)}:{_SYSTEM_PATHS}"


def check_requirements(*, machines: int) -> None:
    """Require everything that so many virtual machines need.

    Raises:
        FailedPreconditionError: something is missing; the remedy says how to get it.
    """
    path = program_path(os.environ)
    check_programs(lambda name: shutil.which(name, path=path))
    if not os.access(_TUN, os.R_OK | os.W_OK):
        raise FailedPreconditionError(
            f"virtual machines cannot be connected: this user may not open {_TUN}",
            remedy="Load the kernel module tun, in a container add the device; "
            "or use --driver namespace (DRIVER=namespace).",
        )
    check_memory(_MEMORY.read_text(encoding="ascii"), machines=machines)


def check_programs(find: Find) -> None:
    """Require the programs.

    Args:
        find: Returns the path of a program, or None.

    Raises:
        FailedPreconditionError: some are missing.
    """
    missing = sorted({package for name, package in PROGRAMS.items() if find(name) is None})
    if missing:
        raise FailedPreconditionError(
            f"virtual machines need what is not installed here: {', '.join(missing)}",
            remedy=f"Run `make setup`, or `sudo apt-get install {' '.join(missing)}`; "
            "or use --driver namespace (DRIVER=namespace).",
        )


def check_memory(meminfo: str, *, machines: int) -> None:
    """Require memory for so many machines.

    Args:
        meminfo: The content of /proc/meminfo.

    Raises:
        FailedPreconditionError: there is too little.
    """
    lines = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    available_mib = int(lines["MemAvailable"].split()[0]) // 1024
    if available_mib < machines * _USED_MIB:
        raise FailedPreconditionError(
            f"{machines} machines of {MEMORY_MIB} MiB do not fit into {available_mib} MiB "
            "of free memory",
            remedy=f"Give --nodes at most {max(available_mib // _USED_MIB, 1)}, "
            "or use --driver namespace (DRIVER=namespace).",
        )
