# SPDX-License-Identifier: Apache-2.0
"""The kernel's figures under the names and labels that node_exporter made usual.

Dashboards and alerts that people have for node_exporter work on them. Every figure is read from
/proc and /sys at the moment of the scrape, and nothing is kept. What a kernel does not offer is
left out, and `node_scrape_collector_success` says so.

    processors  cpu, cpu_info, stat, loadavg, pressure, cpu_vulnerabilities
    memory      meminfo, vmstat
    disks       diskstats, filesystem
    network     netdev, netclass, netstat, sockstat, tcpstat
    system      uname, clocksource, timex, entropy, filefd, thermal_zone, dmi

      /proc, /sys ──▶ KernelFigures ──▶ a collector: pure text work ──▶ Family, Family, …
"""
