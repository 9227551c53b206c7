# SPDX-License-Identifier: Apache-2.0
"""Options of `metropolis metal serve` that say where firmware is kept."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.access.secret_files import read_secret
from metropolis.metal.s3 import S3Settings

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_OPTIONS: Final = (
    click.option(
        "--firmware-s3-endpoint",
        metavar="URL",
        help="S3-compatible store for firmware; BMC agents load from there, too.",
    ),
    click.option("--firmware-s3-bucket", metavar="NAME", help="Bucket for firmware."),
    click.option("--firmware-s3-region", metavar="NAME", help="Its region.  [default: us-east-1]"),
    click.option(
        "--firmware-s3-access-key-file", metavar="FILE", help="File with the store's access key."
    ),
    click.option(
        "--firmware-s3-secret-key-file", metavar="FILE", help="File with the store's secret key."
    ),
)


def firmware_options(command: CommandT) -> CommandT:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def firmware_settings(
    *,
    firmware_s3_endpoint: str | None,
    firmware_s3_bucket: str | None,
    firmware_s3_region: str | None,
    firmware_s3_access_key_file: str | None,
    firmware_s3_secret_key_file: str | None,
) -> S3Settings | None:
    """Return what the options say; None when there are none.

    Raises:
        InvalidArgumentError: some are missing, naming them.
        NotFoundError: a file is not there.
        FailedPreconditionError: a file can be read by others, or is empty.
    """
    needed = {
        "--firmware-s3-endpoint": firmware_s3_endpoint,
        "--firmware-s3-bucket": firmware_s3_bucket,
        "--firmware-s3-access-key-file": firmware_s3_access_key_file,
        "--firmware-s3-secret-key-file": firmware_s3_secret_key_file,
    }
    if not any(needed.values()):
        return None
    missing = [name for name, value in needed.items() if not value]
    if missing:
        raise InvalidArgumentError(
            f"a store for firmware is named, but not all of it: {', '.join(missing)} missing",
            remedy="Give all of these options, or none.",
        )
    settings = {
        name: read_secret(path or "").decode(errors="replace")
        for name, path in (
            ("access_key", firmware_s3_access_key_file),
            ("secret_key", firmware_s3_secret_key_file),
        )
    }
    return S3Settings(
        endpoint=firmware_s3_endpoint or "",
        bucket=firmware_s3_bucket or "",
        region=firmware_s3_region or "us-east-1",
        access_key=settings["access_key"],
        secret_key=settings["secret_key"],
    )
