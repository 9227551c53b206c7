# SPDX-License-Identifier: Apache-2.0
"""Processors: times, load, pressure, known weaknesses. Names and labels of node_exporter."""

from collections.abc import Iterator
from typing import Final

from metropolis.formats.exposition import Family, Sample, counter, gauge
from metropolis.host import KernelFigures

TICKS_PER_S: Final = 100  # USER_HZ, the same on every machine that we run on
_MODES: Final = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_INFO: Final = {
    "cachesize": "cache size",
    "core": "core id",
    "family": "cpu family",
    "microcode": "microcode",
    "model": "model",
    "model_name": "model name",
    "package": "physical id",
    "stepping": "stepping",
    "vendor": "vendor_id",
}
_STAT: Final = {
    "intr": ("node_intr_total", "Total number of interrupts serviced.", counter),
    "ctxt": ("node_context_switches_total", "Total number of context switches.", counter),
    "processes": ("node_forks_total", "Total number of forks.", counter),
    "btime": ("node_boot_time_seconds", "Node boot time, in unixtime.", gauge),
    "procs_running": ("node_procs_running", "Number of processes in runnable state.", gauge),
    "procs_blocked": (
        "node_procs_blocked",
        "Number of processes blocked waiting for I/O to complete.",
        gauge,
    ),
}
_VULNERABILITIES: Final = "/sys/devices/system/cpu/vulnerabilities"


def cpu(kernel: KernelFigures) -> Iterator[Family]:
    """Seconds that each processor spent in each mode."""
    times: list[Sample] = []
    guests: list[Sample] = []
    for line in kernel.read("/proc/stat").splitlines():
        name, *ticks = line.split()
        if not name.startswith("cpu") or name == "cpu":
            continue
        number = name.removeprefix("cpu")
        spent = [int(each) / TICKS_PER_S for each in ticks]
        times += (
            Sample(each, {"cpu": number, "mode": mode})
            for mode, each in zip(_MODES, spent, strict=False)
        )
        guests += (
            Sample(each, {"cpu": number, "mode": mode})
            for mode, each in zip(("user", "nice"), spent[len(_MODES) :], strict=False)
        )
    yield counter("node_cpu_seconds_total", "Seconds the CPUs spent in each mode.", *times)
    yield counter(
        "node_cpu_guest_seconds_total",
        "Seconds the CPUs spent in guests (VMs) for each mode.",
        *guests,
    )


def cpu_info(kernel: KernelFigures) -> Iterator[Family]:
    """What each processor is."""
    samples: list[Sample] = []
    for block in kernel.read("/proc/cpuinfo").strip().split("\n\n"):
        said = {
            key.strip(): value.strip()
            for key, _, value in (line.partition(":") for line in block.splitlines())
        }
        if "processor" in said:
            labels = {name: said.get(key, "") for name, key in _INFO.items()}
            samples.append(Sample(1, {"cpu": said["processor"], **labels}))
    yield gauge("node_cpu_info", "CPU information from /proc/cpuinfo.", *samples)


def stat(kernel: KernelFigures) -> Iterator[Family]:
    """Counts of the whole system."""
    for line in kernel.read("/proc/stat").splitlines():
        key, _, rest = line.partition(" ")
        if key in _STAT:
            name, text, family = _STAT[key]
            yield family(name, text, Sample(int(rest.split()[0])))


def loadavg(kernel: KernelFigures) -> Iterator[Family]:
    """How many processes run or wait, on average."""
    averages = kernel.read("/proc/loadavg").split()[:3]
    for minutes, average in zip((1, 5, 15), averages, strict=True):
        yield gauge(f"node_load{minutes}", f"{minutes}m load average.", Sample(float(average)))


def pressure(kernel: KernelFigures) -> Iterator[Family]:
    """How long processes waited for what is scarce."""
    for resource, kinds in (
        ("cpu", {"some": "waiting"}),
        ("io", {"some": "waiting", "full": "stalled"}),
        ("memory", {"some": "waiting", "full": "stalled"}),
    ):
        for line in kernel.read(f"/proc/pressure/{resource}").splitlines():
            kind, *pairs = line.split()
            if kind in kinds:
                said = dict(pair.split("=", 1) for pair in pairs)
                word = kinds[kind]
                verb = "waited for" if word == "waiting" else "could not make progress due to"
                yield counter(
                    f"node_pressure_{resource}_{word}_seconds_total",
                    f"Total time in seconds that processes {verb} {resource} congestion.",
                    Sample(int(said["total"]) / 1e6),
                )


def cpu_vulnerabilities(kernel: KernelFigures) -> Iterator[Family]:
    """Which weaknesses of processors are known, and what the kernel does about them."""
    samples: list[Sample] = []
    for name in kernel.list(_VULNERABILITIES):
        said = kernel.read(f"{_VULNERABILITIES}/{name}").strip()
        state, _, rest = said.partition(":")
        known = {"Not affected": "not affected", "Mitigation": "mitigation"}
        labels = {
            "codename": name,
            "mitigation": rest.strip() if state == "Mitigation" else "",
            "state": known.get(state, "vulnerable"),
        }
        samples.append(Sample(1, labels))
    yield gauge("node_cpu_vulnerabilities_info", "Details of each CPU vulnerability.", *samples)
