# SPDX-License-Identifier: Apache-2.0
"""A kernel made of texts, as a machine with two processors and one disk has written them."""

from collections.abc import Mapping, Sequence

from metropolis.host import ClockFigures, FileSystemFigures

FILES: Mapping[str, str] = {
    "/proc/stat": (
        "cpu  300 0 100 5000 10 0 3 0 7 0\n"
        "cpu0 200 0 60 2500 6 0 2 0 7 0\n"
        "cpu1 100 0 40 2500 4 0 1 0 0 0\n"
        "intr 123456 0 9 0\nctxt 7890\nbtime 1700000000\nprocesses 4242\n"
        "procs_running 2\nprocs_blocked 1\nsoftirq 1 2 3\n"
    ),
    "/proc/cpuinfo": (
        "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\n"
        "model name\t: A processor\nstepping\t: 7\nmicrocode\t: 0x1\ncache size\t: 1024 KB\n"
        "physical id\t: 0\ncore id\t\t: 0\n\n"
        "processor\t: 1\nvendor_id\t: GenuineIntel\n\n"
    ),
    "/proc/loadavg": "0.21 0.32 0.43 1/234 5678\n",
    "/proc/pressure/cpu": (
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=9\n"
    ),
    "/proc/pressure/io": (
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=500000\n"
    ),
    "/proc/pressure/memory": (
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=2\n"
    ),
    "/proc/meminfo": (
        "MemTotal:        1000 kB\nMemAvailable:     250 kB\nActive(anon):       4 kB\n"
        "HugePages_Total:       3\n"
    ),
    "/proc/vmstat": "nr_free_pages 1\npgpgin 10\npswpout 20\npgmajfault 30\noom_kill 2\n",
    "/proc/diskstats": (
        " 254       0 vda 10 1 20 30 40 2 50 60 1 70 80 5 0 6 7 8 9\n"
        " 254       1 vda1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n"
        "   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
        " 253       0 dm-0 1 0 2 3 4 0 5 6 0 7 8\n"
    ),
    "/proc/self/mounts": (
        "proc /proc proc rw 0 0\n"
        "/dev/mapper/data /store/data xfs rw,relatime 0 0\n"
        "tmpfs /run tmpfs rw 0 0\n"
        "/dev/vda9 /broken\\040disk ext4 ro 0 0\n"
        "tmpfs /dev/shm tmpfs rw 0 0\n"
    ),
    "/proc/net/dev": (
        "Inter-|   Receive                                                |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n"
        "    lo: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n"
        "  eth0:100 2 3 4 5 6 7 8 900 10 11 12 13 14 15 16\n"
        "veth12: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n"
    ),
    "/proc/net/sockstat": "sockets: used 30\nTCP: inuse 5 orphan 0 tw 1 alloc 6 mem 2\n",
    "/proc/net/tcp": (
        "  sl  local_address rem_address   st\n"
        "   0: 0100007F:1EA2 00000000:0000 0A 0\n"
        "   1: 0100007F:1EA2 0200000A:8000 01 0\n"
        "   2: 0100007F:1EA2 0200000A:8001 01 0\n"
    ),
    "/proc/net/netstat": "TcpExt: SyncookiesSent ListenDrops Other\nTcpExt: 1 2 3\n",
    "/proc/net/snmp": "Tcp: ActiveOpens RetransSegs\nTcp: 4 5\n",
    "/proc/sys/kernel/random/entropy_avail": "256\n",
    "/proc/sys/kernel/random/poolsize": "256\n",
    "/proc/sys/fs/file-nr": "1024\t0\t9223372036854775807\n",
    "/proc/self/stat": (
        "1 (python3 (x) y) S 0 1 1 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 3 0 77 1048576 512 "
        "18446744073709551615\n"
    ),
    "/proc/self/status": "Name:\tpython3\nVmRSS:\t    2048 kB\n",
    "/proc/self/limits": (
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max open files            1024                 4096                 files     \n"
    ),
    "/sys/devices/system/clocksource/clocksource0/available_clocksource": "tsc acpi_pm \n",
    "/sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
    "/sys/devices/system/cpu/vulnerabilities/meltdown": "Not affected\n",
    "/sys/devices/system/cpu/vulnerabilities/spectre_v2": "Mitigation: Retpolines; IBPB\n",
    "/sys/devices/system/cpu/vulnerabilities/mds": "Vulnerable: no microcode\n",
    "/sys/class/net/eth0/operstate": "up\n",
    "/sys/class/net/eth0/mtu": "1500\n",
    "/sys/class/thermal/thermal_zone0/type": "x86_pkg_temp\n",
    "/sys/class/thermal/thermal_zone0/temp": "47500\n",
    "/sys/class/dmi/id/product_name": "Standard PC\n",
    "/sys/class/dmi/id/product_serial": "a secret\n",
}


class TextKernel:
    """Implements `KernelFigures` over texts."""

    def __init__(self, files: Mapping[str, str] = FILES) -> None:
        self._files = files

    def read(self, path: str) -> str:
        try:
            return self._files[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    def list(self, path: str) -> Sequence[str]:
        inside = [each.removeprefix(f"{path}/") for each in self._files if each.startswith(path)]
        if path == "/proc/self/fd":
            return ["0", "1", "2"]
        return sorted({each.partition("/")[0] for each in inside})

    def file_system(self, mount_point: str) -> FileSystemFigures:
        if mount_point == "/broken disk":
            raise OSError(5, "Input/output error")
        return FileSystemFigures(
            size_bytes=4096 * 100,
            free_bytes=4096 * 60,
            available_bytes=4096 * 50,
            inodes=1000,
            free_inodes=900,
            is_read_only=False,
        )

    def clock(self) -> ClockFigures:
        return ClockFigures(
            offset_s=-0.002,
            frequency_ratio=1.00001,
            maximum_error_s=0.5,
            estimated_error_s=0.1,
            status=1,
            time_constant=7,
            tick_s=0.01,
            tai_offset_s=37.0,
            is_synchronized=True,
        )

    def system(self) -> Mapping[str, str]:
        return {"sysname": "Linux", "nodename": "metropolis-1", "release": "6.12"}
