# SPDX-License-Identifier: Apache-2.0
"""A hardware watchdog: it resets the machine when nobody feeds it (linux/watchdog.h)."""

import contextlib
import fcntl
import os
import struct
from typing import Final, final

DEVICE: Final = "/dev/watchdog"
_SET_TIMEOUT: Final = 0xC0045706
_NUMBER: Final = struct.Struct("=i")
_FOOD: Final = b"\0"
_MAGIC_CLOSE: Final = b"V"


@final
class LinuxWatchdog:
    """An armed watchdog. It stays armed when this process ends in any way but `disarm`."""

    def __init__(self, descriptor: int, *, timeout_s: int) -> None:
        self._descriptor: int | None = descriptor
        self.timeout_s = timeout_s

    @property
    def is_armed(self) -> bool:
        """Whether it would reset the machine."""
        return self._descriptor is not None

    def feed(self) -> None:
        """Have it wait from the start again."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.write(self._descriptor, _FOOD)

    def disarm(self) -> None:
        """Stop it, if the hardware lets itself be stopped."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        with contextlib.suppress(OSError):
            os.write(descriptor, _MAGIC_CLOSE)
        os.close(descriptor)


def arm_watchdog(timeout_s: int, *, device: str = DEVICE) -> LinuxWatchdog | None:
    """Arm the first watchdog of this machine; None where there is none.

    Args:
        timeout_s: Without food for so long, it resets; hardware may round it.
    """
    try:
        descriptor = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        answer = fcntl.ioctl(descriptor, _SET_TIMEOUT, _NUMBER.pack(timeout_s))
        (timeout_s,) = _NUMBER.unpack(answer)
    except OSError:
        pass  # its own timeout has to do
    return LinuxWatchdog(descriptor, timeout_s=timeout_s)
