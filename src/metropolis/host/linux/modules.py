# SPDX-License-Identifier: Apache-2.0
"""Kernel modules, loaded by their files. No modprobe: what depends on what was listed before."""

import ctypes
import errno
import os
from pathlib import Path
from typing import Final

from metropolis.base.errors import FailedPreconditionError

_SYS_FINIT_MODULE: Final = {"x86_64": 313, "aarch64": 273}

_libc: Final = ctypes.CDLL(None, use_errno=True)


def load_module(path: Path, parameters: str = "") -> bool:
    """Load one module, whose dependencies are loaded already.

    Returns:
        False if it was loaded before, or the machine has nothing that it drives.

    Raises:
        FailedPreconditionError: the kernel refuses it; the message names the module.
    """
    number = _SYS_FINIT_MODULE[os.uname().machine]
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as cause:
        raise _refused(path, cause) from cause
    try:
        result = _libc.syscall(
            ctypes.c_long(number),
            ctypes.c_int(descriptor),
            ctypes.c_char_p(parameters.encode("ascii")),
            ctypes.c_int(0),
        )
        code = ctypes.get_errno()
    finally:
        os.close(descriptor)
    if result == 0:
        return True
    if code in {errno.EEXIST, errno.ENODEV}:
        return False
    cause = OSError(code, os.strerror(code))
    raise _refused(path, cause) from cause


def _refused(path: Path, cause: OSError) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"cannot load the kernel module {path.name}: {cause.strerror}",
        remedy="Install an image again whose kernel and modules were built together.",
    )
