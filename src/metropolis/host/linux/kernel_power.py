# SPDX-License-Identifier: Apache-2.0
"""The end of this kernel: reboot, power off. Only process 1 of a machine calls it."""

import ctypes
import os
import time
from typing import Final, NoReturn

_RESTART: Final = 0x01234567  # linux/reboot.h
_POWER_OFF: Final = 0x4321FEDC
_CAD_OFF: Final = 0x00000000
_FOREVER_S: Final = 3600.0

_libc: Final = ctypes.CDLL(None, use_errno=True)


def restart() -> NoReturn:
    """Write everything out and start the machine again, through its firmware."""
    _end(_RESTART)


def power_off() -> NoReturn:
    """Write everything out and turn the machine off."""
    _end(_POWER_OFF)


def ignore_ctrl_alt_delete() -> None:
    """Have the keyboard's three keys send us SIGINT instead of restarting the machine at once."""
    _libc.reboot(ctypes.c_int(_CAD_OFF))


def _end(command: int) -> NoReturn:
    os.sync()
    _libc.reboot(ctypes.c_int(command))
    while True:  # process 1 must not return, and the kernel may take its time
        time.sleep(_FOREVER_S)
