# SPDX-License-Identifier: Apache-2.0
"""Drivers and the ESP, prepared by a process of its own while this one imports the node.

A thread would want the interpreter after every system call, hundreds of times, and wait for it each
time; a child has its own, and the second processor for itself. It ends with its work. Where there
is no second processor, a child would only cost: this process does the work first.
"""

import json
import os
from dataclasses import asdict
from typing import Any, Final

from metropolis.base.errors import InternalError, MetropolisError, UnavailableError
from metropolis.host.linux.block_devices import FoundPartition
from metropolis.host.linux.boot_clock import seconds_since_kernel_start
from metropolis.node.boot.handover import Handover
from metropolis.node.boot.userland import load_drivers, mount_esp, warm_up

_READ_BYTES: Final = 1 << 16


class Devices:
    """The work of the child, or what this process did in its place."""

    def __init__(self, handover: Handover) -> None:
        self._timeline = handover.timeline
        self.problems: tuple[str, ...] = ()
        self._reading, writing = os.pipe()
        if (os.cpu_count() or 1) == 1:
            _tell(_prepared(handover), writing)
            return
        self._child = os.fork()
        if self._child == 0:
            _work(handover, writing)  # does not return
        os.close(writing)

    def join(self) -> FoundPartition:
        """Wait for the result; return the ESP, mounted.

        Raises:
            UnavailableError: what went wrong, with the remedy that the child knew.
        """
        data = b""
        while piece := os.read(self._reading, _READ_BYTES):
            data += piece
        os.close(self._reading)
        try:
            found: dict[str, Any] = json.loads(data)
        except ValueError as cause:
            raise InternalError("the process that prepares the devices has died") from cause
        if "error" in found:
            raise UnavailableError(found["error"], remedy=found["remedy"])
        self.problems = tuple(found["problems"])
        self._timeline.aside.update(found["aside"])
        return FoundPartition(**found["esp"])


def _work(handover: Handover, writing: int) -> None:
    """Do it and tell; in the child. Reaping it is left to process 1, which reaps whoever ends."""
    try:
        _tell(_prepared(handover), writing)  # before the rest: this is what is waited for
        warm_up()
    finally:
        os._exit(0)


def _tell(found: dict[str, Any], writing: int) -> None:
    """Write a result, smaller than what a pipe holds, and its end."""
    os.write(writing, json.dumps(found).encode())
    os.close(writing)


def _prepared(handover: Handover) -> dict[str, Any]:
    try:
        problems = load_drivers()
        drivers_s = seconds_since_kernel_start()
        esp = mount_esp(handover)
    except MetropolisError as error:
        return {"error": str(error), "remedy": error.remedy}
    except Exception as error:  # noqa: BLE001  # the other process raises it
        return {"error": f"{type(error).__name__}: {error}", "remedy": ""}
    aside = {"drivers": drivers_s, "esp": seconds_since_kernel_start()}
    return {"problems": problems, "aside": aside, "esp": asdict(esp)}
