# SPDX-License-Identifier: Apache-2.0
"""`metropolis image`: what it says when there is nothing to look at, and of the builder's keys."""

import stat
from pathlib import Path

import pytest

from metropolis.image.keys import KEY_NAMES
from metropolis.lab.main import main


def test_without_an_image_the_remedy_is_to_build_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "inspect", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "has no image" in said.err
    assert "remedy: Run `metropolis image build`." in said.err


def test_keys_are_made_where_one_says_and_only_their_digests_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "keys"
    assert main(["image", "keys", "--keys", str(place)]) == 0
    first = capsys.readouterr().out
    assert [line.split()[0] for line in first.splitlines()[1:]] == list(KEY_NAMES)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert "PRIVATE" not in first
    assert main(["image", "keys", "--keys", str(place)]) == 0
    assert capsys.readouterr().out == first
