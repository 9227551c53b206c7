# SPDX-License-Identifier: Apache-2.0
"""Network links of this process's network namespace, through iproute2."""

import socket
import subprocess
from collections.abc import Sequence
from typing import Final

from metropolis.base.errors import FailedPreconditionError

_IP_TIMEOUT_S: Final = 20.0
_COMPLAINT_CHARS_MAX: Final = 500


def configure_links(commands: Sequence[str], *, is_tolerant: bool = False) -> None:
    """Run `ip` commands in order, in one process; stops at the first that fails.

    Args:
        commands: As on a command line, without the leading `ip`.
        is_tolerant: Links may vanish at any time: run every command, whatever becomes of them.

    Raises:
        FailedPreconditionError: `ip` is missing, or the kernel refuses a command.
    """
    text = "".join(f"{command}\n" for command in commands)
    try:
        done = subprocess.run(
            ["ip", *(["-force"] if is_tolerant else []), "-batch", "-"],
            input=text.encode("ascii"),
            capture_output=True,
            timeout=_IP_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as cause:
        raise FailedPreconditionError(
            "cannot run ip", remedy="Install the package iproute2."
        ) from cause
    if done.returncode != 0 and not is_tolerant:
        complaint = done.stderr.decode(errors="replace").strip()[:_COMPLAINT_CHARS_MAX]
        raise FailedPreconditionError(
            f"cannot configure the network of the lab: {complaint}",
            remedy="Load the kernel modules bridge and veth, and run as root.",
        )


def link_names() -> Sequence[str]:
    """Names of the links in this network namespace."""
    return [name for _, name in socket.if_nameindex()]
