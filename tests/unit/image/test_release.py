# SPDX-License-Identifier: Apache-2.0
"""What is published is the same every time, signed, and never an image for debugging."""

import json
import re
import subprocess
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from kits.signer import signer
from kits.system_image import small_image
from metropolis.base.errors import FailedPreconditionError
from metropolis.image.bundle import open_bundle
from metropolis.image.keys import BuilderKey
from metropolis.image.release import write_release
from metropolis.image.single_file import DISTRIBUTIONS

ROOT = Path(__file__).parents[3]
KEY = BuilderKey(private=signer("db").key, certificate=signer("db").certificate)
NOT_FOR_OPERATORS = {"cel-expr-python", "uvloop"}  # nodes and the lab import them


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return small_image(tmp_path / "image")


def _release(image: Path, output: Path, key: BuilderKey = KEY) -> Path:
    metroctl = image.parent / "metroctl"
    metroctl.write_bytes(b"#!/bin/sh\n")
    write_release(image=image, metroctl=metroctl, key=key, output=output)
    return output


def _contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_two_releases_are_the_same_bytes(image: Path, tmp_path: Path) -> None:
    first = _contents(_release(image, tmp_path / "first"))
    again = _contents(_release(image, tmp_path / "again"))
    assert first == again
    assert sorted(first) == [
        *("SHA256SUMS", "SHA256SUMS.sig", "builder.crt", "bundle.zip", "metroctl")
    ]


def test_sha256sum_and_openssl_accept_a_release_until_something_changes(
    image: Path, tmp_path: Path
) -> None:
    place = _release(image, tmp_path / "release")

    def accepted() -> list[bool]:
        public = subprocess.run(
            ["openssl", "x509", "-in", "builder.crt", "-noout", "-pubkey"],
            cwd=place,
            check=True,
            capture_output=True,
        ).stdout
        (tmp_path / "builder.pub").write_bytes(public)
        commands: tuple[list[str | Path], ...] = (
            ["sha256sum", "--check", "--strict", "SHA256SUMS"],
            [
                *("openssl", "dgst", "-sha256", "-verify", tmp_path / "builder.pub"),
                *("-signature", "SHA256SUMS.sig", "SHA256SUMS"),
            ],
        )
        done = (subprocess.run(c, cwd=place, check=False, capture_output=True) for c in commands)
        return [each.returncode == 0 for each in done]

    assert accepted() == [True, True]
    (place / "metroctl").write_bytes(b"other")
    assert accepted() == [False, True]
    (place / "SHA256SUMS").write_bytes((place / "SHA256SUMS").read_bytes() + b"\n")
    assert accepted()[1] is False


def test_a_release_replaces_the_one_before_as_a_whole(image: Path, tmp_path: Path) -> None:
    place = _release(image, tmp_path / "release")
    (place / "old").touch()
    _release(image, place)
    assert not (place / "old").exists()
    assert open_bundle(place / "bundle.zip").kernel()
    assert not list(tmp_path.glob(".release*"))


def test_an_image_for_debugging_is_not_released(image: Path, tmp_path: Path) -> None:
    description = json.loads((image / "image.json").read_text())
    description["product_info"]["variant"] = "x86_64-debug"
    (image / "image.json").write_text(json.dumps(description))
    with pytest.raises(FailedPreconditionError, match="debug service is not released"):
        _release(image, tmp_path / "release")


def test_an_image_of_another_builder_is_not_released(image: Path, tmp_path: Path) -> None:
    other = BuilderKey(private=signer("foreign").key, certificate=signer("foreign").certificate)
    with pytest.raises(FailedPreconditionError, match="another builder's key"):
        _release(image, tmp_path / "release", other)
    assert not (tmp_path / "release").exists()


def test_the_one_file_has_every_distribution_that_an_operator_s_program_may_import() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    left = list(project["dependencies"])
    found: set[str] = set()
    while left:
        requirement = Requirement(left.pop())
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        if name not in found | NOT_FOR_OPERATORS:
            found.add(name)
            left += requires(name) or []
    assert found == set(DISTRIBUTIONS)
