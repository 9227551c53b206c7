# SPDX-License-Identifier: Apache-2.0
"""What tests on virtual machines share: the image, built once, and one cluster of three."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.vm.machines import Trio, build_image, guest_directory, launched
from metropolis.lab.qemu.arguments import Hardware


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs three machines at once: the rest can run side by side."""
    for item in items:
        if "trio" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.trio)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The system image of these sources, with the firmware beside it."""
    return build_image(tmp_path_factory.mktemp("image") / "image")


@pytest.fixture(scope="session")
def trio(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    """Three virtual nodes, HEALTHY, with encrypted disks; every test leaves them so."""
    with launched(tmp_path_factory.mktemp("trio"), image) as made:
        yield made


@pytest.fixture
def machine(image: Path, tmp_path: Path) -> Iterator[tuple[Path, Hardware]]:
    """A machine of its own, without a cluster: its directory and what it is made of.

    It has firmware that trusts the image, and a TPM; the test gives it disks.
    """
    yield guest_directory(tmp_path / "machine", image)
    shutil.rmtree(tmp_path / "machine")  # disks are large, and pytest keeps what it finds
