# SPDX-License-Identifier: Apache-2.0
"""The drivers there are, by name."""

from metropolis.host import Processes
from metropolis.lab.driver import Driver
from metropolis.lab.model import QEMU_DRIVER, Rack
from metropolis.lab.state import ClusterDirectory


def make_driver(rack: Rack, directory: ClusterDirectory, processes: Processes) -> Driver:
    """Return what makes the machines of a rack, inside its keeper."""
    if rack.driver == QEMU_DRIVER:
        from metropolis.lab.qemu.driver import QemuDriver  # noqa: PLC0415  # only who needs it

        return QemuDriver(rack, directory, processes)
    from metropolis.lab.namespace.driver import NamespaceDriver  # noqa: PLC0415  # a rack has one driver

    return NamespaceDriver(rack, directory)
