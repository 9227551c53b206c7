# SPDX-License-Identifier: Apache-2.0
"""What this machine lets us do, found out by doing it, with a remedy where it does not."""

import os

from metropolis.base.errors import FailedPreconditionError, UnavailableError
from metropolis.host.linux.programs import run_program

_UNSHARE_TIMEOUT_S = 10.0


def check_root() -> None:
    """Require effective user 0.

    Raises:
        FailedPreconditionError: somebody else runs us.
    """
    if os.geteuid() != 0:
        raise FailedPreconditionError(
            "nodes need root: they have networks, mounts and host names of their own",
            remedy="Run the same command as root, for example with sudo.",
        )


def check_namespaces() -> None:
    """Require network, mount, PID, UTS and IPC namespaces, by creating one of each for a moment.

    Raises:
        FailedPreconditionError: the kernel or the container we run in refuses.
    """
    kinds = ("--net", "--mount", "--pid", "--uts", "--ipc")
    try:
        run_program(
            ["unshare", *kinds, "--fork", "--mount-proc", "true"], timeout_s=_UNSHARE_TIMEOUT_S
        )
    except UnavailableError as cause:
        raise FailedPreconditionError(
            "this machine does not let us create namespaces",
            remedy="Run on a machine or in a container with CAP_SYS_ADMIN (docker: --privileged).",
        ) from cause
