# SPDX-License-Identifier: Apache-2.0
"""The restore file beside the parameters of the first node: checked before anything is done."""

import hashlib
import hmac
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from metropolis.api.backup_pb2 import RestoreFile
from metropolis.base.errors import DataLossError, FailedPreconditionError
from metropolis.cluster.backup.content import Content, read_content
from metropolis.node.storage import RESTORE, NodeStorage

PREPARE_AGAIN = (
    "Wipe this machine, prepare its files with `metroctl cluster restore`, and install it again."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoration:
    """What a cluster comes back from.

    Attributes:
        digest: SHA-256 of the file.
        known_generation: The newest backup that anybody knew of.
    """

    content: Content
    known_generation: int
    digest: bytes

    @property
    def sentence(self) -> str:
        """What the node says about it."""
        header = self.content.header
        return (
            f"Restoring the cluster from backup {header.generation} of "
            f"{header.created:%Y-%m-%d %H:%M:%S} UTC: {len(self.content.records)} records"
        )


async def read_restoration(storage: NodeStorage) -> Restoration | None:
    """Read the restore file; None without one.

    Raises:
        DataLossError: it is damaged, or not the state of a cluster.
    """
    data = await storage.read(RESTORE)
    if data is None:
        return None
    try:
        wire = RestoreFile.FromString(data)
    except DecodeError as cause:
        raise DataLossError(f"{RESTORE.path} is damaged", remedy=PREPARE_AGAIN) from cause
    return Restoration(
        content=read_content(wire.archive),
        known_generation=wire.known_generation,
        digest=hashlib.sha256(data).digest(),
    )


async def require_restoration(storage: NodeStorage, digest: bytes) -> Restoration:
    """Read the restore file that an enrolment has begun with.

    Raises:
        FailedPreconditionError: it is gone, or another one.
        DataLossError: it is damaged.
    """
    found = await read_restoration(storage)
    if found is None or not hmac.compare_digest(found.digest, digest):
        raise FailedPreconditionError(
            "the restore file that this node began with was taken away or replaced",
            remedy=PREPARE_AGAIN,
        )
    return found
