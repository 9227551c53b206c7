# SPDX-License-Identifier: Apache-2.0
"""What this machine's kernel says of itself: /proc, /sys, statvfs(2), uname(2), adjtimex(2)."""

import ctypes
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from metropolis.host import ClockFigures, FileSystemFigures

_ROOTS: Final = ("/proc/", "/sys/")
_FILE_BYTES_MAX: Final = 1 << 20
_STA_NANO: Final = 0x2000  # linux/timex.h: offset and such count nanoseconds, not microseconds
_TIME_ERROR: Final = 5  # what adjtimex(2) returns when nobody keeps the clock
_SCALED_PPM: Final = 65536e6  # frequency: parts per million, 16 bits behind the point


class LinuxKernelFigures:
    """Implements `metropolis.host.KernelFigures`."""

    def read(self, path: str) -> str:
        assert path.startswith(_ROOTS), path
        # Without Python's own file objects: a scrape reads fifty such files.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            chunks: list[bytes] = []
            size = 0
            while size < _FILE_BYTES_MAX and (chunk := os.read(descriptor, 64 << 10)):
                chunks.append(chunk)
                size += len(chunk)
        finally:
            os.close(descriptor)
        return b"".join(chunks).decode("utf-8", "replace")

    def list(self, path: str) -> Sequence[str]:
        assert path.startswith(_ROOTS), path
        try:
            return sorted(entry.name for entry in Path(path).iterdir())
        except FileNotFoundError:
            return ()

    def file_system(self, mount_point: str) -> FileSystemFigures:
        room = os.statvfs(mount_point)
        return FileSystemFigures(
            size_bytes=room.f_blocks * room.f_frsize,
            free_bytes=room.f_bfree * room.f_frsize,
            available_bytes=room.f_bavail * room.f_frsize,
            inodes=room.f_files,
            free_inodes=room.f_ffree,
            is_read_only=bool(room.f_flag & os.ST_RDONLY),
        )

    def clock(self) -> ClockFigures:
        asked = _Timex()
        state = _adjtimex(ctypes.byref(asked))
        if state < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"adjtimex: {os.strerror(number)}")
        unit_s = 1e-9 if asked.status & _STA_NANO else 1e-6
        return ClockFigures(
            offset_s=asked.offset * unit_s,
            frequency_ratio=1.0 + asked.freq / _SCALED_PPM,
            maximum_error_s=asked.maxerror * 1e-6,
            estimated_error_s=asked.esterror * 1e-6,
            status=asked.status,
            time_constant=asked.constant,
            tick_s=asked.tick * 1e-6,
            tai_offset_s=float(asked.tai),
            is_synchronized=state != _TIME_ERROR,
        )

    def system(self) -> Mapping[str, str]:
        found = os.uname()
        domain = self.read("/proc/sys/kernel/domainname").strip()
        return {
            "sysname": found.sysname,
            "release": found.release,
            "version": found.version,
            "machine": found.machine,
            "nodename": found.nodename,
            "domainname": domain,
        }


class _Timex(ctypes.Structure):
    """Struct timex of 64-bit Linux, <sys/timex.h>."""

    _fields_ = [  # type: ignore[mutable-override]  # as ctypes wants it
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", ctypes.c_long * 2),
        ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int),
        ("stabil", ctypes.c_long),
        ("jitcnt", ctypes.c_long),
        ("calcnt", ctypes.c_long),
        ("errcnt", ctypes.c_long),
        ("stbcnt", ctypes.c_long),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    ]


def _adjtimex(argument: object) -> int:
    call = ctypes.CDLL(None, use_errno=True).adjtimex
    call.restype = ctypes.c_int
    return int(call(argument))
