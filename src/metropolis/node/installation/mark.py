# SPDX-License-Identifier: Apache-2.0
"""The mark of an installation that is under way, where a partition table will be.

It lies at LBA 1, where firmware and kernels look for "EFI PART" and find something else: a disk
with a mark and without a valid backup table has no partitions for anybody.

    0   24  "METROPOLIS-INSTALLATION" and a newline
    24  16  GUID that the disk is about to get, big endian
    40  32  SHA-256 of the 40 bytes before
"""

import hashlib
from typing import Final
from uuid import UUID

_MAGIC: Final = b"METROPOLIS-INSTALLATION\n"
_SIGNED: Final = len(_MAGIC) + 16
MARK_BYTES: Final = _SIGNED + 32


def encode_mark(disk_guid: UUID) -> bytes:
    """Return what stands at LBA 1 during an installation."""
    signed = _MAGIC + disk_guid.bytes
    return signed + hashlib.sha256(signed).digest()


def decode_mark(sector: bytes) -> UUID | None:
    """Return the GUID of the disk whose installation is under way; None for any other sector.

    The medium and the disk give it: who derives the same one may finish what was begun.
    """
    signed = sector[:_SIGNED]
    if not signed.startswith(_MAGIC):
        return None
    if hashlib.sha256(signed).digest() != sector[_SIGNED:MARK_BYTES]:
        return None
    return UUID(bytes=signed[len(_MAGIC) :])
