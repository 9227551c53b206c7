# SPDX-License-Identifier: Apache-2.0
"""What a virtual machine has before its first power-on, its disk excepted: firmware and TPM."""

import asyncio

from metropolis.lab.model import Rack
from metropolis.lab.qemu import arguments, firmware
from metropolis.lab.qemu.disks import ENROLMENT
from metropolis.lab.qemu.tpm import make_tpm
from metropolis.lab.state import ClusterDirectory


async def prepare_machines(rack: Rack, directory: ClusterDirectory) -> None:
    """Give every machine of a rack what it lacks; takes about a second.

    Raises:
        FailedPreconditionError: the firmware is not on this computer.
        UnavailableError: a TPM cannot be made.
    """
    build = firmware.find_firmware((directory.image,))
    trusted = firmware.trusting(directory.image / ENROLMENT)
    for number in rack.numbers:
        machine = directory.node(number)
        if not (machine / arguments.VARIABLES).exists():
            firmware.write_variables(machine, build, trusted)
    await make_tpms(rack, directory)


async def make_tpms(rack: Rack, directory: ClusterDirectory) -> None:
    """Give every machine of a rack that has no TPM one, with a certificate of the rack's maker.

    Raises:
        UnavailableError: a TPM cannot be made.
    """
    async with asyncio.TaskGroup() as tasks:
        for number in rack.numbers:
            tasks.create_task(_make_tpm(rack, directory, number))


async def _make_tpm(rack: Rack, directory: ClusterDirectory, number: int) -> None:
    await asyncio.to_thread(
        lambda: make_tpm(
            directory.node(number), maker=directory.maker, name=f"{rack.name}-{number}"
        )
    )
