# SPDX-License-Identifier: Apache-2.0
"""What a configured network, the firewall and the clock are on the image's own kernel."""

import json
from pathlib import Path

import pytest

from kits.experiment_vm import ExperimentVm

EXPERIMENT = Path(__file__).with_name("network_experiment.py")


@pytest.mark.timeout(300)
def test_bonds_agree_with_each_other_and_the_clock_starts_at_the_build_time(
    image: Path, tmp_path: Path
) -> None:
    hubs = [f"hubport,hubid={number}" for number in (1, 2, 1, 2)]
    machine = ExperimentVm(image, tmp_path)
    report = machine.run(EXPERIMENT.read_text(), networks=[*hubs, "user"], timeout_s=200)
    assert report.is_done, report.printed
    (line,) = [each for each in report.printed.splitlines() if each.startswith("facts: ")]
    facts = json.loads(line.removeprefix("facts: "))
    assert facts["addresses"] == ["10.0.2.15", "192.0.2.7", "198.51.100.7"]
    for bond, partner in zip(facts["bonds"], ("0b", "0a"), strict=True):
        assert "Bonding Mode: IEEE 802.3ad Dynamic link aggregation" in bond
        assert "Transmit Hash Policy: layer3+4" in bond
        assert "LACP rate: fast" in bond
        assert f"Partner Mac Address: 02:00:00:00:00:{partner}" in bond
    assert facts["vlan"][:3] == ["tagged", "VID:", "7"]
    assert facts["router_addresses"] == []  # nobody configured IPv6
    assert facts["start"] == "the image's build time"
    assert (facts["year"], facts["saved_year"]) == (2100, 2100)
    assert json.loads(facts["chronyd"])["CapEff"] == "0000000002000000"  # it may set the clock
