# SPDX-License-Identifier: Apache-2.0
"""Drivers and the ESP, prepared by a thread of their own."""

import os
import threading

from metropolis.base.errors import InternalError
from metropolis.host.linux.block_devices import FoundPartition
from metropolis.node.boot.handover import Handover
from metropolis.node.boot.userland import load_drivers, mount_esp, warm_up


class Devices:
    """The work of the other thread."""

    def __init__(self, handover: Handover) -> None:
        self._handover = handover
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="devices", daemon=True)
        self.problems: tuple[str, ...] = ()
        self.esp: FoundPartition | None = None
        self._thread.start()

    def join(self) -> FoundPartition:
        """Wait for the end of it; return the ESP, mounted. Raises what the work raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        if self.esp is None:
            raise InternalError("the devices were not prepared")
        return self.esp

    def _work(self) -> None:
        try:
            self.problems = load_drivers()
            self._handover.timeline.mark("drivers", is_aside=True)
            self.esp = mount_esp(self._handover)
            self._handover.timeline.mark("esp", is_aside=True)
            if (os.cpu_count() or 1) > 1:
                warm_up()
        except BaseException as error:  # noqa: BLE001  # the other thread raises it
            self._error = error
