# SPDX-License-Identifier: Apache-2.0
"""Which system a machine starts: the confirmed one, or the other after three bad starts."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from metropolis.api import common_pb2, configuration_pb2
from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.lab.qemu.arguments import Hardware
from metropolis.lab.qemu.disks import KERNEL, install
from metropolis.lab.qemu.guest import Guest
from metropolis.node.slots.kernels import slot_path
from metropolis.node.slots.lifecycle import ATTEMPTS_MAX
from metropolis.node.slots.model import Slot
from metropolis.node.storage import PARAMETERS

pytestmark = pytest.mark.timeout(600)  # five starts

BOOT_TIMEOUT_S = 120.0
OFF_TIMEOUT_S = 60.0
_KINDS = common_pb2.ClusterConfiguration


def alone() -> bytes:
    """Parameters of a node that is a whole cluster and comes back without another one."""
    bootstrap = configuration_pb2.NodeParameters.ClusterBootstrap(
        owner_public_key=bytes(range(32)),
        initial_cluster_configuration=_KINDS(
            cluster_domain="cluster.internal",
            tpm_mode=_KINDS.TPM_MODE_BEST_EFFORT,
            storage_security_policy=_KINDS.STORAGE_SECURITY_POLICY_NEEDS_INSECURE,
        ),
    )
    parameters = configuration_pb2.NodeParameters(cluster_bootstrap=bootstrap)
    return parameters.SerializeToString(deterministic=True)


def test_a_machine_starts_what_was_confirmed_and_the_other_slot_after_three_bad_starts(
    image: Path, machine: tuple[Path, Hardware]
) -> None:
    place, hardware = machine
    hardware = replace(hardware, forward=((0, CURATOR_TCP_PORT),))
    kernel = (image / KERNEL).read_bytes()
    files = {PARAMETERS.path: alone(), f"esp/{slot_path(Slot.B)}": kernel}
    install(place / "disk.raw", image, files)

    async def scenario() -> None:
        async with Guest(place, hardware) as guest:  # the firmware knows no entry of ours
            await guest.wait_for("system slot A, confirmed", timeout_s=BOOT_TIMEOUT_S)
            await guest.wait_for("The system in slot A is confirmed", timeout_s=BOOT_TIMEOUT_S)
            await guest.press_power_button()
            await guest.wait_for("is switched off: the power button", timeout_s=OFF_TIMEOUT_S)
            assert await guest.wait_off(timeout_s=OFF_TIMEOUT_S) == 0
        for _ in range(ATTEMPTS_MAX):
            async with Guest(place, hardware) as guest:
                await guest.wait_for('starting Boot.* "Metropolis A"', timeout_s=BOOT_TIMEOUT_S)
                await guest.wait_for("slot A, not confirmed yet", timeout_s=BOOT_TIMEOUT_S)
        async with Guest(place, hardware) as guest:
            await guest.wait_for(
                f"The system in slot A was started {ATTEMPTS_MAX} times and never confirmed: "
                "starting slot B",
                timeout_s=BOOT_TIMEOUT_S,
            )
            await guest.wait_for('starting Boot.* "Metropolis B"', timeout_s=BOOT_TIMEOUT_S)
            await guest.wait_for("The system in slot B is confirmed", timeout_s=BOOT_TIMEOUT_S)

    asyncio.run(scenario())
