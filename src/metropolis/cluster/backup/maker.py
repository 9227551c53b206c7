# SPDX-License-Identifier: Apache-2.0
"""One backup: every key as of one revision, encrypted on the way."""

import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from metropolis.base.errors import (
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
)
from metropolis.cluster.state import keys, pki
from metropolis.cluster.state.fenced import FencedStore
from metropolis.formats.backup.archive import Record
from metropolis.formats.backup.file import FILE_BYTES_MAX, BackupWriter
from metropolis.formats.backup.header import Header
from metropolis.formats.backup.sealing import KEY_BYTES, FileKey, fingerprint
from metropolis.host import Entropy
from metropolis.pki.keys import from_go_form

# What we store under one key stays far below 8 KiB, and a message may have 4 MiB.
PAGE_KEYS: Final = 250
SEND_BYTES: Final = 256 << 10  # pieces are handed on when there is that much

Sink = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A backup that was made.

    Attributes:
        file_key: Opens it; forget it after the rehearsal.
    """

    header: Header
    records: int
    size_bytes: int
    sha256: bytes
    file_key: FileKey = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be made: of which revision, for whom."""

    generation: int
    revision: int
    created: datetime
    ca_fingerprint: bytes
    cluster_domain: str
    recovery_public_key: bytes

    @property
    def header(self) -> Header:
        """What the backup says of itself."""
        return Header(
            generation=self.generation,
            revision=self.revision,
            created=self.created,
            ca_fingerprint=self.ca_fingerprint,
            cluster_domain=self.cluster_domain,
            recovery_key_fingerprint=fingerprint(self.recovery_public_key),
        )


async def stored_records(store: FencedStore, revision: int) -> AsyncGenerator[Record, None]:
    """Yield all keys as of a revision, in order, but those of elections.

    Raises:
        OutOfRangeError: the revision is compacted.
        UnavailableError: the store does not answer.
    """
    after = b""
    while True:
        page = await store.page(after=after, revision=revision, limit=PAGE_KEYS)
        for item in page:
            if item.lease_id == 0 and not item.key.startswith(keys.LEADER):
                yield Record(item.key, item.value)
        if len(page) < PAGE_KEYS:
            return
        after = page[-1].key


async def make_backup(store: FencedStore, order: Order, entropy: Entropy, sink: Sink) -> Made:
    """Make a backup and hand it to `sink`, piece by piece.

    Raises:
        DataLossError: the CA's key, which signs it, is missing or damaged in the store.
        FailedPreconditionError: the state is too large.
        OutOfRangeError: it took so long that its revision was compacted.
        UnavailableError: the store does not answer.
    """
    writer = BackupWriter(
        order.header,
        public_key=order.recovery_public_key,
        ephemeral_secret=entropy.token_bytes(KEY_BYTES),
    )
    pieces = _Pieces(sink)
    await pieces.take(writer.beginning)
    ca_key: Ed25519PrivateKey | None = None
    async with aclosing(stored_records(store, order.revision)) as records:
        async for record in records:
            if record.key == pki.CLUSTER.key(pki.CLUSTER.ca_name):
                ca_key = _ca_key(record.value)
            for piece in writer.record(record):
                await pieces.take(piece)
    if ca_key is None:
        raise _no_ca_key()
    for piece in writer.finish(ca_key):
        await pieces.take(piece)
    await pieces.flush()
    return Made(
        header=order.header,
        records=writer.count,
        size_bytes=pieces.total_bytes,
        sha256=pieces.digest.digest(),
        file_key=writer.file_key,
    )


class _Pieces:
    """Gathers small pieces into larger ones."""

    def __init__(self, sink: Sink) -> None:
        self.total_bytes = 0
        self.digest = hashlib.sha256()
        self._sink = sink
        self._buffer = bytearray()

    async def take(self, piece: bytes) -> None:
        self._buffer += piece
        if len(self._buffer) >= SEND_BYTES:
            await self.flush()

    async def flush(self) -> None:
        if self._buffer:
            data = bytes(self._buffer)
            self._buffer.clear()
            self.digest.update(data)
            self.total_bytes += len(data)
            if self.total_bytes > FILE_BYTES_MAX:
                raise FailedPreconditionError(
                    f"the cluster's state is larger than a backup can be, {FILE_BYTES_MAX} bytes",
                    remedy="Report this as a bug: no cluster of ours needs that much.",
                )
            await self._sink(data)


def _ca_key(stored: bytes) -> Ed25519PrivateKey:
    try:
        return from_go_form(stored)
    except InvalidArgumentError as cause:
        raise _no_ca_key() from cause


def _no_ca_key() -> DataLossError:
    return DataLossError(
        "the key of the cluster's CA is missing or damaged in the store",
        remedy="Restore the store from an earlier backup.",
    )
