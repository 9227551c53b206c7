# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of this process, under the names that every Prometheus client uses."""

from collections.abc import Iterator
from typing import Final

from metropolis.formats.exposition import Family
from metropolis.host import KernelFigures
from metropolis.node.metrics import series
from metropolis.node.metrics.kernel.processors import TICKS_PER_S

# Fields of /proc/self/stat, counted from behind the name, which may hold anything; see proc(5).
_USER_TICKS: Final = 11
_SYSTEM_TICKS: Final = 12
_THREADS: Final = 17
_START_TICKS: Final = 19
_VIRTUAL_BYTES: Final = 20
_NO_LIMIT: Final = float("inf")


def process(kernel: KernelFigures) -> Iterator[Family]:
    """Describe this process."""
    fields = _stat(kernel)
    ticks = int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])
    yield series.CPU.one(ticks / TICKS_PER_S)
    yield series.RESIDENT.one(_kib(kernel, "VmRSS:") << 10)
    yield series.VIRTUAL.one(int(fields[_VIRTUAL_BYTES]))
    yield series.THREADS.one(int(fields[_THREADS]))
    yield series.OPEN_FILES.one(len(kernel.list("/proc/self/fd")))
    yield series.OPEN_FILES_MAX.one(_open_files_max(kernel))
    yield series.STARTED.one(_boot_time_s(kernel) + started_s(kernel))


def started_s(kernel: KernelFigures) -> float:
    """When this process was started, in seconds since the machine was."""
    return int(_stat(kernel)[_START_TICKS]) / TICKS_PER_S


def _stat(kernel: KernelFigures) -> list[str]:
    return kernel.read("/proc/self/stat").rpartition(")")[2].split()


def _kib(kernel: KernelFigures, key: str) -> int:
    lines = kernel.read("/proc/self/status").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(key)), 0)


def _open_files_max(kernel: KernelFigures) -> float:
    for line in kernel.read("/proc/self/limits").splitlines():
        if line.startswith("Max open files"):
            soft = line.removeprefix("Max open files").split()[0]
            return int(soft) if soft.isdigit() else _NO_LIMIT
    return _NO_LIMIT


def _boot_time_s(kernel: KernelFigures) -> int:
    lines = kernel.read("/proc/stat").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("btime ")), 0)
