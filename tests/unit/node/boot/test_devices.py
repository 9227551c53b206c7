# SPDX-License-Identifier: Apache-2.0
"""The child that prepares the devices tells its parent what it did, or why it could not."""

import json
import os

import pytest

from metropolis.base.errors import InternalError, UnavailableError
from metropolis.host.linux.block_devices import FoundPartition
from metropolis.node.boot.devices import Devices
from metropolis.node.boot.timeline import Timeline

ESP = {
    "name": "vda1",
    "disk": "vda",
    "number": 1,
    "guid": "g",
    "type_guid": "t",
    "label": "ESP",
    "size_bytes": 5,
    "first_byte": 6,
    "sector_bytes": 512,
}


def devices(told: bytes) -> Devices:
    """As after the fork, with what the child has written."""
    made = Devices.__new__(Devices)
    made._timeline = Timeline()
    made.problems = ()
    made._reading, writing = os.pipe()
    os.write(writing, told)
    os.close(writing)
    return made


def test_the_esp_the_problems_and_the_times_come_back() -> None:
    made = devices(
        json.dumps({"problems": ["no x.ko"], "aside": {"drivers": 4.0}, "esp": ESP}).encode()
    )
    assert made.join() == FoundPartition(**ESP)  # type: ignore[arg-type]
    assert made.problems == ("no x.ko",)
    assert made._timeline.aside == {"drivers": 4.0}


def test_a_failure_comes_back_with_its_remedy() -> None:
    made = devices(json.dumps({"error": "the ESP is damaged", "remedy": "Mend it."}).encode())
    with pytest.raises(UnavailableError, match="the ESP is damaged") as caught:
        made.join()
    assert caught.value.remedy == "Mend it."


def test_a_child_that_died_is_called_dead() -> None:
    with pytest.raises(InternalError, match="has died"):
        devices(b"").join()
