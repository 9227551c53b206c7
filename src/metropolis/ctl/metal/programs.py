# SPDX-License-Identifier: Apache-2.0
"""Other programs that take our place: ssh, ipmitool."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence

from metropolis.base.errors import FailedPreconditionError


def become(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> None:
    """Become another program, with our terminal; never comes back.

    Args:
        environment: What it gets beside ours; secrets go here, never into the command.

    Raises:
        FailedPreconditionError: it is not installed.
    """
    program = shutil.which(command[0])
    if program is None:
        raise FailedPreconditionError(
            f"the program {command[0]} is not installed here", remedy=f"Install {command[0]}."
        )
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(program, list(command), {**os.environ, **(environment or {})})  # noqa: S606  # no shell, a list of words


def check_host(host: str) -> str:
    """Return the host of an ssh command, unless ssh would take it for an option.

    Raises:
        FailedPreconditionError: it is empty or begins with a dash.
    """
    if not host or host.startswith("-") or not host.isprintable() or " " in host:
        raise FailedPreconditionError(
            f"{host[:64]!r} is no host to connect to", remedy="Correct what the API has of it."
        )
    return host
