# SPDX-License-Identifier: Apache-2.0
"""Steps: done once per content, whole or not at all."""

import os
from pathlib import Path

import pytest

from metropolis.image.steps import Steps, digest_of


def test_what_did_not_change_is_not_done_again(tmp_path: Path) -> None:
    said: list[str] = []
    steps = Steps(directory=tmp_path, say=said.append)
    for key in ("one", "two", "one", "one"):
        place = steps.done(
            "step", digest_of(key), lambda scratch: touch(scratch / "out"), title="working"
        )
        assert (place / "out").exists()
    assert said == ["working", "working"]


def touch(path: Path) -> None:
    path.write_bytes(b"")


def test_a_step_that_fails_leaves_nothing_that_looks_done(tmp_path: Path) -> None:
    steps = Steps(directory=tmp_path, say=lambda _line: None)

    def fail(scratch: Path) -> None:
        touch(scratch / "half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        steps.done("step", digest_of("key"), fail, title="working")
    assert list((tmp_path / "step").iterdir()) == []
    again = steps.done("step", digest_of("key"), lambda s: touch(s / "whole"), title="working")
    assert [path.name for path in again.iterdir()] == ["whole"]


def test_only_the_newest_outputs_are_kept(tmp_path: Path) -> None:
    steps = Steps(directory=tmp_path, say=lambda _line: None)
    place = tmp_path
    for number in range(10):
        place = steps.done("step", digest_of(str(number)), lambda _s: None, title="")
        os.utime(place, (number, number))
    assert len(list((tmp_path / "step").iterdir())) <= 7
    assert place.exists()


def test_a_digest_tells_where_one_part_ends() -> None:
    assert digest_of("ab", "c") != digest_of("a", "bc")
    assert digest_of("a") == digest_of(b"a")
