# SPDX-License-Identifier: Apache-2.0
"""When the boot reached what: one line in the log, so that our part of it can be seen."""

from metropolis.host.linux.boot_clock import seconds_since_kernel_start


class Timeline:
    """Marks of this boot, in seconds since the kernel's start, in their order."""

    def __init__(self) -> None:
        self.marks: dict[str, float] = {}
        self.aside: dict[str, float] = {}  # by another process, at the same time
        self.firmware_s: float | None = None  # what came before the kernel, where anybody says it

    def mark(self, name: str) -> None:
        """Note that this was reached now; the first time counts."""
        self.marks.setdefault(name, seconds_since_kernel_start())

    def line(self) -> str:
        """Say how long each part took, what was done beside it until when, and the whole."""
        parts = [] if self.firmware_s is None else [f"firmware {self.firmware_s:.1f}"]
        before_s = 0.0
        for name, at_s in self.marks.items():
            parts.append(f"{name} {at_s - before_s:.2f}")
            before_s = at_s
        total_s = before_s + (self.firmware_s or 0.0)
        beside = ", ".join(f"{name} until {at_s:.2f}" for name, at_s in self.aside.items())
        return f"boot: {', '.join(parts)}; {total_s:.1f} s in all" + (
            f"; beside it {beside}" if beside else ""
        )
