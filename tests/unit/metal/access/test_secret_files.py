# SPDX-License-Identifier: Apache-2.0
"""Secrets are read from files that nobody else can read."""

from pathlib import Path

import pytest

from metropolis.base.errors import FailedPreconditionError, NotFoundError
from metropolis.metal.access.secret_files import SECRET_BYTES_MAX, read_secret


def written(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return str(path)


def test_a_secret_is_read_without_the_line_end(tmp_path: Path) -> None:
    assert read_secret(written(tmp_path / "key", " s3cret \n")) == b"s3cret"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_refused_with_how_to_mend_it(
    tmp_path: Path, mode: int
) -> None:
    path = written(tmp_path / "key", "s3cret", mode)
    with pytest.raises(FailedPreconditionError, match="read by others") as caught:
        read_secret(path)
    assert f"chmod 600 {path}" in caught.value.remedy
    assert "s3cret" not in str(caught.value)


def test_a_secret_is_there_and_short(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_secret(str(tmp_path / "none"))
    with pytest.raises(FailedPreconditionError, match="empty"):
        read_secret(written(tmp_path / "empty", "\n"))
    with pytest.raises(FailedPreconditionError, match="longer"):
        read_secret(written(tmp_path / "long", "x" * (SECRET_BYTES_MAX + 1)))
