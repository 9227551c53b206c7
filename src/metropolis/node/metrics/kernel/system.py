# SPDX-License-Identifier: Apache-2.0
"""The machine as a whole: names, time, descriptors, temperatures. Names of node_exporter."""

from collections.abc import Iterator, Sequence
from typing import Final

from metropolis.formats.exposition import Family, Sample, gauge
from metropolis.host import KernelFigures

_CLOCKSOURCE: Final = "/sys/devices/system/clocksource/clocksource0"
_THERMAL: Final = "/sys/class/thermal"
_DMI: Final = "/sys/class/dmi/id"
_DMI_FIELDS: Final = (  # without serial numbers: they are nobody's business
    "bios_date", "bios_release", "bios_vendor", "bios_version", "board_name", "board_vendor",
    "board_version", "chassis_vendor", "product_family", "product_name", "product_sku",
    "product_version", "system_vendor",
)  # fmt: skip


def uname(kernel: KernelFigures) -> Iterator[Family]:
    """What the kernel is called."""
    text = "Labeled system information as provided by the uname system call."
    yield gauge("node_uname_info", text, Sample(1, kernel.system()))


def clocksource(kernel: KernelFigures) -> Iterator[Family]:
    """What the kernel reads the time from."""
    for kind, words in (
        ("available", kernel.read(f"{_CLOCKSOURCE}/available_clocksource").split()),
        ("current", kernel.read(f"{_CLOCKSOURCE}/current_clocksource").split()),
    ):
        samples = [Sample(1, {"clocksource": word, "device": "0"}) for word in words]
        yield gauge(
            f"node_time_clocksource_{kind}_info",
            f"{kind.capitalize()} clocksource read from '{_CLOCKSOURCE}'.",
            *samples,
        )


def timex(kernel: KernelFigures) -> Iterator[Family]:
    """How the clock is kept."""
    clock = kernel.clock()
    for name, text, value in (
        ("offset_seconds", "Time offset in between local system and reference clock.",
         clock.offset_s),
        ("frequency_adjustment_ratio", "Local clock frequency adjustment.",
         clock.frequency_ratio),
        ("maxerror_seconds", "Maximum error in seconds.", clock.maximum_error_s),
        ("estimated_error_seconds", "Estimated error in seconds.", clock.estimated_error_s),
        ("status", "Value of the status array bits.", clock.status),
        ("loop_time_constant", "Phase-locked loop time constant.", clock.time_constant),
        ("tick_seconds", "Seconds between clock ticks.", clock.tick_s),
        ("tai_offset_seconds", "International Atomic Time (TAI) offset.", clock.tai_offset_s),
        ("sync_status", "Is clock synchronized to a reliable server (1 = yes, 0 = no).",
         int(clock.is_synchronized)),
    ):  # fmt: skip
        yield gauge(f"node_timex_{name}", text, Sample(value))


def entropy(kernel: KernelFigures) -> Iterator[Family]:
    """How much randomness the kernel has."""
    for name, file in (("available_bits", "entropy_avail"), ("pool_size_bits", "poolsize")):
        value = int(kernel.read(f"/proc/sys/kernel/random/{file}"))
        yield gauge(f"node_entropy_{name}", f"Bits of {file} of the kernel.", Sample(value))


def filefd(kernel: KernelFigures) -> Iterator[Family]:
    """How many files are open."""
    allocated, _, maximum = kernel.read("/proc/sys/fs/file-nr").split()
    for name, value in (("allocated", allocated), ("maximum", maximum)):
        yield gauge(
            f"node_filefd_{name}", f"File descriptor statistics: {name}.", Sample(float(value))
        )


def thermal_zone(kernel: KernelFigures) -> Iterator[Family]:
    """How warm the machine is."""
    samples: list[Sample] = []
    for name in kernel.list(_THERMAL):
        number = name.removeprefix("thermal_zone")
        if number == name:
            continue
        try:
            kind = kernel.read(f"{_THERMAL}/{name}/type").strip()
            degrees = int(kernel.read(f"{_THERMAL}/{name}/temp")) / 1000
        except OSError:
            continue  # a sensor that does not answer now
        samples.append(Sample(degrees, {"type": kind, "zone": number}))
    yield gauge("node_thermal_zone_temp", "Zone temperature in Celsius", *samples)


def dmi(kernel: KernelFigures) -> Iterator[Family]:
    """What the machine is, as its maker says."""
    present = {
        name: kernel.read(f"{_DMI}/{name}").strip() for name in _present(kernel, _DMI_FIELDS)
    }
    if present:
        yield gauge(
            "node_dmi_info", "A metric with a constant '1' value labeled by what the machine is.",
            Sample(1, present),
        )  # fmt: skip


def _present(kernel: KernelFigures, names: Sequence[str]) -> Sequence[str]:
    there = set(kernel.list(_DMI))
    return [name for name in names if name in there]
