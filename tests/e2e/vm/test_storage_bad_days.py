# SPDX-License-Identifier: Apache-2.0
"""A node whose disk, TPM or firmware is not what it was: what its console says, and what it keeps.

Each machine is as before afterwards, and its node comes back after the last test.
"""

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.vm.machines import Trio
from kits.raw_disk import RawDisk
from kits.swtpm import clear, swtpm
from metropolis.lab.qemu import firmware
from metropolis.lab.qemu.arguments import DISK
from metropolis.lab.qemu.tpm import make_tpm
from metropolis.node.storage import COPY_SUFFIX, SEALED_CONFIGURATION

pytestmark = pytest.mark.timeout(600)  # the first test waits for the image and the launch

VICTIM, OTHER = 2, 1
PATIENCE_S = 240.0  # three machines start at once where nothing but software emulates them
SEALED = SEALED_CONFIGURATION.path.removeprefix("esp/")
HEADER_BYTES = 4 << 20  # of LUKS2: metadata twice, and the key slots
ENROL_AGAIN = "delete the node with `metroctl node delete`, wipe the machine, and install it again."


@pytest.fixture(scope="module", autouse=True)
def everybody_is_back(trio: Trio) -> Iterator[None]:
    """The victim stays off between these tests: what they look at needs no cluster of three."""
    yield
    asyncio.run(trio.bring_up())


def told(trio: Trio, damage: Callable[[Path], None]) -> tuple[str, str]:
    """Do something to a machine that is off; return problem and next step of its next start."""

    async def watched() -> tuple[str, str]:
        console = trio.console(VICTIM)
        await trio.cluster.power(VICTIM, "on")
        problem = await console.wait_for(r"problem: .*\n", timeout_s=PATIENCE_S)
        next_step = await console.wait_for(r"next step: .*\n")
        return problem.removeprefix("problem: "), next_step.removeprefix("next step: ")

    with trio.saved(VICTIM) as machine:
        damage(machine)
        return asyncio.run(watched())


async def on_until_heard(trio: Trio) -> None:
    moment = time.time()
    await trio.cluster.power(VICTIM, "on")
    await trio.heartbeat_after(VICTIM, moment, timeout_s=PATIENCE_S)


def test_one_flipped_copy_of_what_is_sealed_is_mended_and_two_are_told(trio: Trio) -> None:
    def both(machine: Path) -> None:
        disk = RawDisk(machine / DISK)
        disk.flip_in_file(SEALED)
        disk.flip_in_file(SEALED + COPY_SUFFIX)

    problem, _ = told(trio, both)
    assert problem == f"{SEALED_CONFIGURATION.path} and its copy are damaged"

    with trio.saved(VICTIM) as machine:
        RawDisk(machine / DISK).flip_in_file(SEALED)
        asyncio.run(on_until_heard(trio))
        asyncio.run(trio.cluster.power(VICTIM, "off"))
        files = RawDisk(machine / DISK).files()
        assert files[SEALED] == files[SEALED + COPY_SUFFIX]


def test_a_flipped_luks_header_is_told(trio: Trio) -> None:
    def damage(machine: Path) -> None:
        disk = RawDisk(machine / DISK)
        for copy in (0, 16384):
            disk.flip(disk.data + copy + 600)

    problem, next_step = told(trio, damage)
    assert problem == "the header of the data partition /dev/vda4 is damaged"
    assert next_step.startswith("Restore its header from a backup if there is one; otherwise")


def test_the_data_partition_of_another_node_is_told(trio: Trio) -> None:
    def damage(machine: Path) -> None:
        ours, others = RawDisk(machine / DISK), RawDisk(trio.machine(OTHER) / DISK)
        ours.write(ours.data, others.read(others.data, HEADER_BYTES))

    problem, _ = told(trio, damage)
    assert problem == (
        "the data partition /dev/vda4 is of another node or of an earlier installation: the keys "
        "of this node do not open it"
    )


def test_a_cleared_tpm_is_told(trio: Trio) -> None:
    def damage(machine: Path) -> None:
        async def cleared() -> None:
            with swtpm(machine / "tpm") as tpm:
                await clear(await tpm.boot(secure_boot="any", image="any"))

        asyncio.run(cleared())

    problem, next_step = told(trio, damage)
    assert problem == "the TPM was cleared after this node sealed its keys: they are lost"
    assert next_step == ENROL_AGAIN.capitalize().replace("`Metroctl", "`metroctl")


def test_a_disk_in_another_machine_is_told(trio: Trio) -> None:
    """The same when the TPM was replaced, and on the second of two machines with cloned disks."""

    def damage(machine: Path) -> None:
        shutil.rmtree(machine / "tpm")
        make_tpm(machine, maker=trio.cluster.directory.path / "maker", name="another")

    problem, next_step = told(trio, damage)
    assert problem == (
        "this node's keys are sealed by another TPM: its disk was moved or copied from another "
        "machine, or the TPM was replaced"
    )
    assert next_step == f"Put disk and TPM back together; if one of them is gone, {ENROL_AGAIN}"


def test_secure_boot_switched_off_is_told(trio: Trio) -> None:
    def damage(machine: Path) -> None:
        build = firmware.find_firmware((trio.cluster.directory.image,))
        firmware.write_variables(machine, build, ())

    problem, next_step = told(trio, damage)
    assert problem.startswith("PCR 7 (Secure Boot and its keys) is ")
    assert "when this node sealed its keys: the variable SecureBoot was changed" in problem
    assert problem.endswith("is gone"), "the signer of the kernel was not looked at"
    assert next_step.startswith("Set Secure Boot and its keys back in the machine's firmware")
