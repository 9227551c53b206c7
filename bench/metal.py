# SPDX-License-Identifier: Apache-2.0
"""`make bench-metal`: Metal over HTTP and gRPC, its address books, its machines; on both databases.

Prints a table and writes build/bench-metal.json, with what kind of machine it was and how much of
it other programs used meanwhile: figures by the clock say little on one that is busy, so beside
them stands what one core would do.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.__main__ import OUTPUT, is_met, run

MODULES: Final = ("metal_http", "metal_ipam", "metal_machines")
BUSY: Final = 0.2  # of the machine, from which on the clock says little
_LOOP: Final = 1_000_000


class Others:
    """How much of the machine other programs use, from now on."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._before_s = _busy_s() - _own_s()

    def share(self) -> float:
        """Return it, between 0 and 1; what this program waited for is its own."""
        took_s = (time.monotonic() - self._began_s) * (os.cpu_count() or 1)
        return max(0.0, (_busy_s() - _own_s() - self._before_s) / took_s)


def _busy_s() -> float:
    first = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, first.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    used = os.times()  # with that of children that have ended
    return used.user + used.system + used.children_user + used.children_system


def machine() -> str:
    """Describe what it was measured on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores of {name}, {memory_gib:.0f} GiB,"
        f" Linux {platform.release()}, Python {platform.python_version()}"
    )


def calibrate_ms() -> float:
    """Return the CPU time of a million additions: how fast a core is for programs like this one."""
    best_s = float("inf")
    for _ in range(5):
        began_s, total = time.process_time(), 0
        for number in range(_LOOP):
            total += number
        best_s = min(best_s, time.process_time() - began_s)
    return best_s * 1e3


def main(arguments: Sequence[str]) -> int:
    """Print the table; the exit status is 0 even when a target is missed."""
    if unknown := [name for name in arguments if name not in MODULES]:
        print(f"error: no benchmark is called {', '.join(unknown)}", file=sys.stderr)
        print(f"remedy: choose from {', '.join(MODULES)}", file=sys.stderr)
        return 1
    others, began_s = Others(), time.monotonic()
    figures = run(arguments or MODULES)
    share = others.share()
    print(f"{'FIGURE':<62} {'VALUE':>10} {'UNIT':<12} {'TARGET':>8}")
    for name, (value, unit, target) in figures.items():
        bound = "" if target is None else f"{target:g}"
        met = is_met(value, unit, target)
        mark = "" if met is None else "met" if met else "MISSED"
        if met is False and share > BUSY:
            mark += ", on a machine that was busy with other things"
        print(f"{name:<62} {value:>10,.1f} {unit:<12} {bound:>8} {mark}".rstrip())
    loop_ms = calibrate_ms()
    print(
        f"bench: {machine()}; a million additions {loop_ms:.0f} ms; others used {share:.0%} of it,"
        f" load {os.getloadavg()[0]:.1f}; {time.monotonic() - began_s:.0f} s"
    )
    rows: dict[str, object] = {
        name: {"value": value, "unit": unit, "target": target, "met": is_met(value, unit, target)}
        for name, (value, unit, target) in figures.items()
    }
    rows["machine"] = {"is": machine(), "million additions, ms": loop_ms, "others' share": share}
    output = OUTPUT.parent / "bench-metal.json"
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
