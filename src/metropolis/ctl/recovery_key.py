# SPDX-License-Identifier: Apache-2.0
"""The recovery key, and how far backups have come, in the files of a context.

recovery-key.pem     0600, X25519: opens every backup of the cluster
backup-generation    the newest generation that this operator has seen, and of which CA
"""

import hashlib
from pathlib import Path
from typing import Final

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.ctl import files
from metropolis.ctl.contexts import Context
from metropolis.formats.backup.sealing import KEY_BYTES, fingerprint, public_key_of
from metropolis.host import Entropy
from metropolis.pki import pem

LABEL: Final = "METROPOLIS RECOVERY PRIVATE KEY"
_KEY_FILE: Final = "recovery-key.pem"
_GENERATION_FILE: Final = "backup-generation"


def default_path(context: Context) -> Path:
    """Return where the recovery key of a context lies."""
    return context.directory / _KEY_FILE


def create(path: Path, entropy: Entropy) -> bool:
    """Make a recovery key; return False if there is one already.

    Raises:
        FailedPreconditionError: it cannot be written.
    """
    files.make_directory(path.absolute().parent)
    return files.create(path, pem.encode(LABEL, entropy.token_bytes(KEY_BYTES)))


def read(path: Path) -> bytes:
    """Read a recovery key's private half.

    Raises:
        FailedPreconditionError: there is none.
        InvalidArgumentError: the file is something else.
    """
    text = files.read(path)
    if text is None:
        raise FailedPreconditionError(
            f"there is no recovery key at {path}",
            remedy="Name the file with --key, or make a key with `metroctl cluster backup keygen`.",
        )
    try:
        key = pem.decode(LABEL, text)
    except InvalidArgumentError as cause:
        raise InvalidArgumentError(f"{path}: {cause}", remedy=cause.remedy) from None
    if len(key) != KEY_BYTES:
        raise InvalidArgumentError(
            f"{path}: a recovery key has {KEY_BYTES} bytes", remedy="Restore it from a copy."
        )
    return key


def name_of(private_key: bytes) -> str:
    """Return what people call a recovery key: the beginning of its fingerprint."""
    return short(fingerprint(public_key_of(private_key)))


def short(key_fingerprint: bytes) -> str:
    """Return the beginning of a fingerprint, as people compare it."""
    return key_fingerprint.hex()[:16]


def known_generation(context: Context, ca_fingerprint: bytes) -> int:
    """Return the newest generation of a cluster that this operator has seen; 0: none."""
    words = (files.read(context.directory / _GENERATION_FILE) or "").split()
    if len(words) != 2 or words[0] != ca_fingerprint.hex() or not words[1].isdigit():  # noqa: PLR2004
        return 0
    return int(words[1])


def remember_generation(context: Context, ca: bytes, generation: int) -> None:
    """Keep in mind that a cluster, whose CA (DER) is given, has come that far."""
    ca_fingerprint = hashlib.sha256(ca).digest()
    if generation > known_generation(context, ca_fingerprint):
        path = context.directory / _GENERATION_FILE
        files.replace(path, f"{ca_fingerprint.hex()} {generation}\n", mode=files.PUBLIC)
