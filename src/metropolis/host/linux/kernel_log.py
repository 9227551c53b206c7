# SPDX-License-Identifier: Apache-2.0
"""The kernel's own log, /dev/kmsg: one record per read, with its priority."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

DEVICE: Final = "/dev/kmsg"
_RECORD_BYTES_MAX: Final = 8192  # the kernel refuses shorter buffers than a record
_PRIORITY_BITS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRecord:
    """One line of the kernel.

    Attributes:
        priority: 0 (emergency) to 7 (debugging).
        since_start_s: When it was written, in seconds since the kernel's start.
        is_of_kernel: False for what programs wrote into the device.
    """

    priority: int
    since_start_s: float
    text: str
    is_of_kernel: bool = True


def parse_record(data: bytes) -> KernelRecord:
    """Read a record (kernel, Documentation/ABI/testing/dev-kmsg). Pure.

    What follows the first line describes devices; it is left out.
    """
    head, _, rest = data.partition(b";")
    text = rest.partition(b"\n")[0].decode("utf-8", errors="replace")
    fields = head.split(b",")
    try:
        priority = int(fields[0])
        since_start_s = int(fields[2]) / 1e6
    except (ValueError, IndexError):
        return KernelRecord(priority=6, since_start_s=0.0, text=text or head.decode("latin-1"))
    return KernelRecord(
        priority=priority & ((1 << _PRIORITY_BITS) - 1),
        since_start_s=since_start_s,
        text=text,
        is_of_kernel=priority >> _PRIORITY_BITS == 0,
    )


async def kernel_records(device: str = DEVICE) -> AsyncIterator[KernelRecord]:
    """Yield what the kernel has logged since its start, then what it logs.

    What was overwritten before it could be read is missing, without a sign.
    """
    loop = asyncio.get_running_loop()
    descriptor = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        while True:
            try:
                data = os.read(descriptor, _RECORD_BYTES_MAX)
            except BlockingIOError:
                readable.clear()
                await readable.wait()
                continue
            except OSError as error:
                if error.errno == errno.EPIPE:  # overwritten: the next read goes on after the gap
                    continue
                raise
            if not data:
                return
            yield parse_record(data)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
