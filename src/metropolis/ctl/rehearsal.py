# SPDX-License-Identifier: Apache-2.0
"""Reading backups on the operator's computer: always as a full rehearsal of their restore.

The one place of these tools that knows server internals, because the rehearsal must be of the very
code that the first node runs. Imported only by commands that read a backup.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from metropolis.api.common_pb2 import ClusterConfiguration
from metropolis.base.errors import FailedPreconditionError, NotFoundError
from metropolis.cluster.backup.content import Content, plain_archive
from metropolis.cluster.backup.rehearsal import rehearse_restore
from metropolis.formats.backup.header import Header
from metropolis.host.linux.entropy import LinuxEntropy

_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """A backup that was restored into a scratch store.

    Attributes:
        ca_certificate: DER of the cluster's CA, which has signed the backup.
        archive: The whole content in clear.
        nodes: How many nodes there were.
    """

    header: Header
    records: int
    nodes: int
    ca_certificate: bytes
    owner_public_key: bytes
    configuration: ClusterConfiguration
    archive: bytes = field(repr=False)


def rehearse(path: Path, private_key: bytes) -> Rehearsed:
    """Restore a backup into a scratch store.

    Raises:
        NotFoundError: there is no such file.
        InvalidArgumentError: it is no backup.
        FailedPreconditionError: it is encrypted to another key, or cannot be read.
        DataLossError: it is damaged, or no cluster comes out of it.
    """
    content = asyncio.run(_rehearse(path, private_key))
    return Rehearsed(
        header=content.header,
        records=len(content.records),
        nodes=len(content.nodes),
        ca_certificate=content.authority.certificate,
        owner_public_key=content.owner_public_key,
        configuration=content.configuration,
        archive=plain_archive(content),
    )


async def _rehearse(path: Path, private_key: bytes) -> Content:
    async with aclosing(_pieces(path)) as pieces:
        return await rehearse_restore(pieces, private_key, LinuxEntropy())


async def _pieces(path: Path) -> AsyncGenerator[bytes, None]:
    try:
        with path.open("rb") as file:  # nothing else is going on meanwhile
            while piece := file.read(_PIECE_BYTES):
                yield piece
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no file {path}", remedy="Name a file that holds a backup."
        ) from None
    except OSError as cause:
        raise FailedPreconditionError(
            f"cannot read {path}: {cause.strerror or cause}", remedy="Correct its permissions."
        ) from cause
