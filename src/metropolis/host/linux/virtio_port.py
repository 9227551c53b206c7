# SPDX-License-Identifier: Apache-2.0
"""A named channel between a virtual machine and its hypervisor: a port of virtio-serial."""

import os
from pathlib import Path
from typing import Final

PORTS: Final = Path("/sys/class/virtio-ports")
DEVICES: Final = Path("/dev")


def find_port(name: str, *, ports: Path = PORTS, devices: Path = DEVICES) -> Path | None:
    """Return the device of the port that the hypervisor gave this name; None if there is none."""
    if not ports.is_dir():
        return None
    for port in sorted(ports.iterdir()):
        try:
            found = (port / "name").read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if found == name:
            return devices / port.name
    return None


class VirtioPort:
    """An open port. It never blocks."""

    def __init__(self, device: Path) -> None:
        """Open it.

        Raises:
            OSError: it is gone, or open already.
        """
        self._descriptor = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)

    def read(self, size: int) -> bytes | None:
        """Return what has arrived; None if that is nothing, and b"" if nobody is at the other end.

        Raises:
            OSError: the port is gone.
        """
        try:
            return os.read(self._descriptor, size)
        except BlockingIOError:
            return None

    def write(self, data: bytes) -> None:
        """Send a few bytes, unless nobody is at the other end, or does not read.

        Raises:
            OSError: the port is gone.
        """
        try:
            os.write(self._descriptor, data)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)
