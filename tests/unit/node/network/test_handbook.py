# SPDX-License-Identifier: Apache-2.0
"""The network configuration that the handbook shows works as it says."""

import re
from pathlib import Path

from google.protobuf import text_format

from metropolis.api import configuration_pb2
from metropolis.node.network.configuration_check import read_configuration

CHAPTER = Path(__file__).parents[4] / "docs/handbook/configuration-and-deployment.md"


def test_the_example_of_the_handbook_is_a_bond_with_a_vlan_on_it() -> None:
    (text,) = re.findall(r"```textproto\n(.*?)```", CHAPTER.read_text(), re.DOTALL)
    parameters = text_format.Parse(text, configuration_pb2.NodeParameters())
    found = read_configuration(parameters.network_config)
    assert list(found.order) == ["bond0", "nodes", "uplink0", "uplink1"]
    assert [str(each) for each in found.interface("nodes").addresses] == ["10.0.0.7/24"]
