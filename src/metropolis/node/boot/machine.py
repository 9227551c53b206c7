# SPDX-License-Identifier: Apache-2.0
"""Process 1 of a machine, on the verified root file system.

Two things at once, on two cores: this process imports what a node needs (seconds, where every
processor instruction is emulated), a child of it has the kernel load drivers and mount the ESP.
"""

import gc
from typing import NoReturn

from metropolis.formats.install_medium import SYSTEM_PARTITION_NAME
from metropolis.host.linux.kernel_power import ignore_ctrl_alt_delete
from metropolis.node.boot.devices import Devices
from metropolis.node.boot.handover import Handover
from metropolis.node.boot.last_words import give_up
from metropolis.node.boot.ready_code import use
from metropolis.node.boot.ready_modules import offer, withdraw
from metropolis.node.boot.userland import prepare_early


def main(handover: Handover) -> NoReturn:
    """Run this machine until it is switched off."""
    ignore_ctrl_alt_delete()  # it ends this machine in order, as every other end
    prepare_early()
    devices = Devices(handover)
    if handover.system_partition.label == SYSTEM_PARTITION_NAME:
        from metropolis.node.boot.medium import install  # noqa: PLC0415  # a node never needs it

        install(handover, devices)
    found = offer("machine")
    use("machine")
    from metropolis.node.boot.life import live  # noqa: PLC0415  # beside the devices

    withdraw(found)
    del found
    gc.enable()
    handover.timeline.mark("imports")
    try:
        live(handover, devices)
    except BaseException as error:  # noqa: BLE001  # process 1 must not end
        give_up(error, doing="run this machine")
