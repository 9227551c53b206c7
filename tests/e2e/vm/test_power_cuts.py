# SPDX-License-Identifier: Apache-2.0
"""A machine whose power is cut while it founds a cluster: it goes on where it was, as who it was.

A seed names the steps at which it happens. METROPOLIS_POWER_CUTS says how many seeds: three, or the
thirty of `make test-long`. A cut after the enrolment is another matter: a cluster of one whose disk
is encrypted cannot open it alone (no cold start yet), so the cuts end before the consensus has
started: from there it is a moment. Later cuts are simulated, and killed processes in namespaces.
"""

import asyncio
import os
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from metropolis.base.ports import CURATOR_TCP_PORT
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.lab import parameters
from metropolis.lab.model import QEMU_DRIVER
from metropolis.lab.qemu.arguments import DISK, Hardware
from metropolis.lab.qemu.disks import install
from metropolis.lab.qemu.guest import Guest
from metropolis.node.storage import PARAMETERS
from metropolis.pki import keys

SEEDS = int(os.environ.get("METROPOLIS_POWER_CUTS", "3"))
CUTS = 2
LATEST_S = 0.3
STEP_TIMEOUT_S = 120.0
STEPS = (
    "Node parameters ask for a new cluster",
    "Enrolment: keys created",
    "Enrolment: storage ready",
    "Enrolment: sealed without ca",
)
RESUMED = "Resuming the bootstrap enrolment"
PAST = "Enrolment: consensus started"  # of a step that was done just before the cut before
NODE = re.compile(r"metropolis-[0-9a-f]{32}")


@pytest.fixture
def founder(image: Path, machine: tuple[Path, Hardware]) -> tuple[Path, Hardware]:
    """An installed machine that was told to found a cluster, with encrypted storage."""
    directory, hardware = machine
    owner = keys.raw_public_key(keys.generate_key(LinuxEntropy()))
    told = parameters.bootstrap_parameters(owner_public_key=owner, driver=QEMU_DRIVER)
    install(directory / DISK, image, {PARAMETERS.path: told.SerializeToString()})
    return directory, replace(hardware, forward=((0, CURATOR_TCP_PORT),))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_machine_whose_power_is_cut_while_it_founds_a_cluster_goes_on(
    founder: tuple[Path, Hardware], seed: int
) -> None:
    directory, hardware = founder
    chance = random.Random(seed)
    cuts = sorted(chance.sample(range(len(STEPS)), CUTS))

    async def life(until: str, *, then_s: float) -> str:
        async with Guest(directory, hardware) as guest:
            line = await guest.wait_for(until, timeout_s=STEP_TIMEOUT_S)
            if PAST not in line.text:
                await asyncio.sleep(then_s)  # the moment of the cut is what the seed chose
            return guest.text()

    async def scenario() -> list[str]:
        lives: list[str] = []
        for number in cuts:
            is_done = any(STEPS[number] in text for text in lives)
            until = f"{RESUMED if is_done else STEPS[number]}|{PAST}"
            lives.append(await life(until, then_s=chance.uniform(0, LATEST_S)))
        return [*lives, await life("system slot A, confirmed", then_s=0)]

    *_, last = lives = asyncio.run(scenario())
    assert "cluster CA sha256:" in last
    # Before its keys are written down a machine is nobody, and may become another one.
    written = next(number for number, text in enumerate(lives) if STEPS[1] in text or number == 1)
    named = [set(NODE.findall(text)) for text in lives[written:]]
    assert len(set().union(*named)) == 1, (cuts, named)
    assert "problem:" not in last
