# SPDX-License-Identifier: Apache-2.0
"""`metroctl node disk-key`: no cluster is asked; the disk and the recovery key are enough."""

import sys
from pathlib import Path
from typing import BinaryIO

import click

from metropolis.base.errors import FailedPreconditionError
from metropolis.ctl import recovery_key
from metropolis.ctl.command_line import command
from metropolis.formats.disk_token import open_token

_PATH = click.Path(path_type=Path)
_TOKEN_BYTES_MAX = 64 << 10


@command("disk-key")
@click.argument("token", type=click.File("rb"))
@click.option("--recovery-key", "key", type=_PATH, required=True, help="As given to genusb.")
def node_disk_key(token: BinaryIO, key: Path) -> None:
    r"""Open the data partition of a node that cannot, with the recovery key of its installation.

    Put the disk into another computer, and let DEVICE be its fourth partition:

    \b
    cryptsetup token export --token-id 0 DEVICE |
      metroctl node disk-key - --recovery-key FILE |
      cryptsetup open --key-file - DEVICE data
    """
    if sys.stdout.isatty():
        raise FailedPreconditionError(
            "this prints a secret of 32 bytes, and not to a terminal",
            remedy="Pipe it into `cryptsetup open --key-file - DEVICE data`.",
        )
    secret = open_token(token.read(_TOKEN_BYTES_MAX), recovery_key.read(key))
    sys.stdout.buffer.write(secret)
