# SPDX-License-Identifier: Apache-2.0
import asyncio
from pathlib import Path

import pytest

from metropolis.host.linux.directory import LinuxDirectory
from metropolis.node.boot.given_parameters import take_given_parameters
from metropolis.node.storage import ENROLMENT_RECORD, PARAMETERS, SEALED_CONFIGURATION, NodeStorage


def take(tmp_path: Path, given: bytes | None) -> tuple[str, bytes | None]:
    place = tmp_path / "fw_cfg"
    if given is not None:
        place.write_bytes(given)
    storage = NodeStorage(LinuxDirectory(tmp_path / "store"))

    async def scenario() -> tuple[str, bytes | None]:
        said = await take_given_parameters(storage, places=(tmp_path / "none", place))
        return said, await storage.read(PARAMETERS)

    return asyncio.run(scenario())


def test_a_fresh_machine_takes_them_once(tmp_path: Path) -> None:
    assert take(tmp_path, b"given") == ("Node parameters taken from the hypervisor", b"given")
    assert take(tmp_path, b"given") == ("", b"given")


def test_without_any_nothing_is_done(tmp_path: Path) -> None:
    assert take(tmp_path, None) == ("", None)


@pytest.mark.parametrize("place", [SEALED_CONFIGURATION, ENROLMENT_RECORD])
def test_a_machine_of_a_cluster_does_not_listen(tmp_path: Path, place: object) -> None:
    own = tmp_path / "store" / getattr(place, "path")  # noqa: B009
    own.parent.mkdir(parents=True)
    own.write_bytes(b"own")
    said, read = take(tmp_path, b"given")
    assert said == "Node parameters of the hypervisor are ignored: this machine has its own"
    assert read is None
