# SPDX-License-Identifier: Apache-2.0
"""Time since the kernel started, and sleeping, for programs that run without an event loop."""

import time


def seconds_since_kernel_start() -> float:
    """Seconds since the kernel set up its clock, suspensions included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def rest(duration_s: float) -> None:
    """Let this thread sleep."""
    time.sleep(duration_s)
