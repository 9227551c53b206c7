# SPDX-License-Identifier: Apache-2.0
"""Secrets come from files that nobody else can read, never from a command line or environment."""

import os
import stat
from typing import Final

from metropolis.base.errors import FailedPreconditionError, NotFoundError

SECRET_BYTES_MAX: Final = 64 * 1024
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def read_secret(path: str) -> bytes:
    """Return what a file holds, without white space around it.

    Raises:
        NotFoundError: there is no such file.
        FailedPreconditionError: others can read it, it is empty, or too long for a secret.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as cause:
        raise NotFoundError(
            f"cannot read the secret in {path}: {cause.strerror}",
            remedy="Name a file that holds the secret and nothing else.",
        ) from cause
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode) and mode & _OTHERS:
            raise FailedPreconditionError(
                f"{path} holds a secret and can be read by others",
                remedy=f"Run `chmod 600 {path}`, and change the secret if others may have read it.",
            )
        text = file.read(SECRET_BYTES_MAX + 1)
    if len(text) > SECRET_BYTES_MAX:
        raise FailedPreconditionError(
            f"{path} is longer than {SECRET_BYTES_MAX} bytes", remedy="Name the file of a secret."
        )
    secret = text.strip()
    if not secret:
        raise FailedPreconditionError(
            f"{path} is empty", remedy="Write the secret into it, or leave the option out."
        )
    return secret
