# SPDX-License-Identifier: Apache-2.0
"""Memory. Names and labels of node_exporter."""

from collections.abc import Iterator
from typing import Final

from metropolis.formats.exposition import Family, Kind, Sample, gauge
from metropolis.host import KernelFigures

_VMSTAT: Final = ("oom_kill", "pgpg", "pswp")  # besides pg…fault


def meminfo(kernel: KernelFigures) -> Iterator[Family]:
    """Every line of /proc/meminfo: `Active(anon): 4 kB` is node_memory_Active_anon_bytes."""
    for line in kernel.read("/proc/meminfo").splitlines():
        key, value, *unit = line.split()
        name = key.rstrip(":").replace("(", "_").replace(")", "")
        number = int(value)
        if unit == ["kB"]:
            name, number = f"{name}_bytes", number << 10
        yield gauge(f"node_memory_{name}", f"Memory information field {name}.", Sample(number))


def vmstat(kernel: KernelFigures) -> Iterator[Family]:
    """Paging, swapping, and processes killed for want of memory."""
    for line in kernel.read("/proc/vmstat").splitlines():
        key, _, value = line.partition(" ")
        is_fault = key.startswith("pg") and key.endswith("fault")
        if is_fault or key.startswith(_VMSTAT):
            yield Family(
                f"node_vmstat_{key}",
                f"/proc/vmstat information field {key}.",
                Kind.UNTYPED,
                [Sample(int(value))],
            )
