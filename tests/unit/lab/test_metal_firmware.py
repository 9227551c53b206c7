# SPDX-License-Identifier: Apache-2.0
"""Options that say where firmware is kept."""

from pathlib import Path

import pytest

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.lab.commands.metal_firmware import firmware_settings
from metropolis.metal.s3 import S3Settings


def key_file(directory: Path, name: str, *, mode: int = 0o600) -> str:
    path = directory / name
    path.write_text(f"{name}\n")
    path.chmod(mode)
    return str(path)


def given(directory: Path, *, mode: int = 0o600) -> dict[str, str | None]:
    return {
        "firmware_s3_endpoint": "https://s3.example",
        "firmware_s3_bucket": "firmware",
        "firmware_s3_region": None,
        "firmware_s3_access_key_file": key_file(directory, "access"),
        "firmware_s3_secret_key_file": key_file(directory, "secret", mode=mode),
    }


def test_all_options_together_name_a_store(tmp_path: Path) -> None:
    assert firmware_settings(**given(tmp_path)) == S3Settings(
        endpoint="https://s3.example",
        bucket="firmware",
        region="us-east-1",
        access_key="access",
        secret_key="secret",
    )


def test_no_option_names_no_store(tmp_path: Path) -> None:
    assert firmware_settings(**dict.fromkeys(given(tmp_path))) is None


@pytest.mark.parametrize("missing", ["endpoint", "bucket", "access_key_file", "secret_key_file"])
def test_half_a_store_is_refused_naming_the_rest(tmp_path: Path, missing: str) -> None:
    options = {**given(tmp_path), f"firmware_s3_{missing}": None}
    with pytest.raises(InvalidArgumentError, match=f"firmware-s3-{missing.replace('_', '-')}"):
        firmware_settings(**options)


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FailedPreconditionError, match="can be read by others"):
        firmware_settings(**given(tmp_path, mode=0o644))
