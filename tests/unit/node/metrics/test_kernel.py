# SPDX-License-Identifier: Apache-2.0
"""The kernel's figures have the names, labels and units of node_exporter."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from metropolis.formats.exposition import Family, Kind, encode
from metropolis.host.sim.clock import SimClock
from metropolis.node.metrics.kernel.collectors import COLLECTORS, collect
from metropolis.node.metrics.process import process
from metropolis.sim import simulate
from unit.node.metrics.kernel_files import FILES, TextKernel

EXPECTED = """\
node_cpu_seconds_total{cpu="0",mode="user"} 2.0
node_cpu_seconds_total{cpu="1",mode="idle"} 25.0
node_cpu_seconds_total{cpu="0",mode="softirq"} 0.02
node_cpu_guest_seconds_total{cpu="0",mode="user"} 0.07
node_cpu_info{cpu="1",cachesize="",core="",family="",microcode="",model="",model_name="",package="",\
stepping="",vendor="GenuineIntel"} 1
node_intr_total 123456
node_context_switches_total 7890
node_boot_time_seconds 1700000000
node_forks_total 4242
node_procs_blocked 1
node_load5 0.32
node_pressure_cpu_waiting_seconds_total 1.5
node_pressure_io_stalled_seconds_total 0.5
node_memory_MemTotal_bytes 1024000
node_memory_Active_anon_bytes 4096
node_memory_HugePages_Total 3
node_vmstat_pgmajfault 30
node_vmstat_oom_kill 2
node_disk_read_bytes_total{device="vda"} 10240
node_disk_write_time_seconds_total{device="vda"} 0.06
node_disk_io_now{device="vda"} 1
node_disk_flush_requests_time_seconds_total{device="vda"} 0.009000000000000001
node_disk_reads_completed_total{device="dm-0"} 1
node_filesystem_avail_bytes{device="/dev/mapper/data",fstype="xfs",mountpoint="/store/data"} 204800
node_filesystem_readonly{device="tmpfs",fstype="tmpfs",mountpoint="/run"} 0
node_filesystem_device_error{device="/dev/vda9",fstype="ext4",mountpoint="/broken disk"} 1
node_network_receive_bytes_total{device="eth0"} 100
node_network_transmit_carrier_total{device="eth0"} 15
node_network_up{device="eth0"} 1
node_network_mtu_bytes{device="eth0"} 1500
node_sockstat_TCP_alloc 6
node_netstat_TcpExt_ListenDrops 2
node_netstat_Tcp_RetransSegs 5
node_tcp_connection_states{state="established"} 2
node_tcp_connection_states{state="listen"} 1
node_entropy_available_bits 256
node_filefd_allocated 1024.0
node_timex_offset_seconds -0.002
node_timex_sync_status 1
node_time_clocksource_current_info{clocksource="tsc",device="0"} 1
node_cpu_vulnerabilities_info{codename="spectre_v2",mitigation="Retpolines; IBPB",\
state="mitigation"} 1
node_cpu_vulnerabilities_info{codename="mds",mitigation="",state="vulnerable"} 1
node_cpu_vulnerabilities_info{codename="meltdown",mitigation="",state="not affected"} 1
node_thermal_zone_temp{type="x86_pkg_temp",zone="0"} 47.5
node_dmi_info{product_name="Standard PC"} 1
node_uname_info{sysname="Linux",nodename="metropolis-1",release="6.12"} 1
"""


def collected(files: Mapping[str, str] = FILES) -> Sequence[Family]:
    async def scenario() -> Sequence[Family]:
        return await collect(TextKernel(files), SimClock())

    return simulate(scenario, seed=1)


@pytest.mark.parametrize("line", EXPECTED.splitlines())
def test_a_figure_is_what_the_kernel_wrote(line: str) -> None:
    assert line in encode(collected()).decode().splitlines()


def test_every_name_is_there_once_and_counters_say_so() -> None:
    families = collected()
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    for family in families:
        assert family.text
        if family.kind is Kind.COUNTER:
            assert family.name.endswith("_total"), family.name


@pytest.mark.parametrize("noise", ["veth12", '"lo"', "loop0", "vda1", "/dev/shm", "a secret"])
def test_what_says_nothing_about_the_node_is_left_out(noise: str) -> None:
    assert noise not in encode(collected()).decode()


def succeeded(families: Sequence[Family]) -> dict[str, float]:
    (family,) = [each for each in families if each.name == "node_scrape_collector_success"]
    return {sample.labels["collector"]: sample.value for sample in family.samples}


def test_a_whole_kernel_has_no_collector_that_fails() -> None:
    assert succeeded(collected()) == dict.fromkeys(COLLECTORS, 1.0)


def test_a_kernel_without_pressure_figures_has_one_that_does() -> None:
    files = {name: text for name, text in FILES.items() if "/pressure/" not in name}
    assert [name for name, value in succeeded(collected(files)).items() if not value] == [
        "pressure"
    ]


@pytest.mark.parametrize("path", [each for each in FILES if each.startswith("/proc/")])
def test_what_is_missing_or_unreadable_takes_nothing_else_along(path: str) -> None:
    whole = succeeded(collected())
    for files in (
        {name: text for name, text in FILES.items() if name != path},
        {**FILES, path: "what is\nthis: x y\n"},
    ):
        found = succeeded(collected(files))
        assert sum(found.values()) >= sum(whole.values()) - 2


def test_a_scrape_lets_others_have_their_turn() -> None:
    async def scenario() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        async with asyncio.TaskGroup() as group:
            task = group.create_task(other())
            await collect(TextKernel(), SimClock())
            task.cancel()
        return turns

    assert simulate(scenario, seed=2) > len(COLLECTORS) / 2


def test_the_process_is_described_even_if_its_name_is_strange() -> None:
    text = encode(process(TextKernel())).decode().splitlines()
    assert "process_cpu_seconds_total 2.0" in text
    assert "process_resident_memory_bytes 2097152" in text
    assert "process_virtual_memory_bytes 1048576" in text
    assert "process_threads 3" in text
    assert "process_open_fds 3" in text
    assert "process_max_fds 1024" in text
    assert "process_start_time_seconds 1700000000.77" in text
