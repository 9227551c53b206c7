# SPDX-License-Identifier: Apache-2.0
"""All collectors, run one after the other; one that fails takes nothing of the others."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from metropolis.formats.exposition import Family, Sample, gauge
from metropolis.host import Clock, KernelFigures
from metropolis.node.metrics.kernel import disks, memory, network, processors, system

Collector = Callable[[KernelFigures], Iterable[Family]]

COLLECTORS: Final[Mapping[str, Collector]] = {
    "clocksource": system.clocksource,
    "cpu": processors.cpu,
    "cpu_info": processors.cpu_info,
    "cpu_vulnerabilities": processors.cpu_vulnerabilities,
    "diskstats": disks.diskstats,
    "dmi": system.dmi,
    "entropy": system.entropy,
    "filefd": system.filefd,
    "filesystem": disks.filesystem,
    "loadavg": processors.loadavg,
    "meminfo": memory.meminfo,
    "netclass": network.netclass,
    "netdev": network.netdev,
    "netstat": network.netstat,
    "pressure": processors.pressure,
    "sockstat": network.sockstat,
    "stat": processors.stat,
    "tcpstat": network.tcpstat,
    "thermal_zone": system.thermal_zone,
    "timex": system.timex,
    "uname": system.uname,
    "vmstat": memory.vmstat,
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def collect(kernel: KernelFigures, clock: Clock) -> Sequence[Family]:
    """Ask every collector; others get their turn on the loop between any two."""
    families: list[Family] = []
    durations: list[Sample] = []
    successes: list[Sample] = []
    for name, collector in COLLECTORS.items():
        began_s = clock.monotonic_s()
        try:
            found = list(collector(kernel))
        except (OSError, ValueError, IndexError, KeyError):
            # The kernel has no such file, or writes it in a way that we do not know.
            found = None
        families += found or ()
        durations.append(Sample(clock.monotonic_s() - began_s, {"collector": name}))
        successes.append(Sample(int(found is not None), {"collector": name}))
        await asyncio.sleep(0)
    now_s = (clock.wall() - _EPOCH).total_seconds()
    return [
        *families,
        gauge("node_time_seconds", "System time in seconds since epoch (1970).", Sample(now_s)),
        gauge(
            "node_scrape_collector_duration_seconds", "Duration of a collector scrape.", *durations
        ),
        gauge("node_scrape_collector_success", "Whether a collector succeeded.", *successes),
    ]
