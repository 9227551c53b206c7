# SPDX-License-Identifier: Apache-2.0
"""A restore into a scratch store, compared with the original key by key.

A backup that was never restored is a hope. While the key of the file is still known, the bytes as
they lie on the disk are decrypted, restored, and compared with the store they came from.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from metropolis.api.common_pb2 import NODE_TPM_USAGE_NOT_PRESENT
from metropolis.base.errors import DataLossError
from metropolis.cluster.backup.content import (
    Content,
    check_content,
    is_of_old_hardware,
)
from metropolis.cluster.backup.maker import PAGE_KEYS, Made, stored_records
from metropolis.cluster.backup.restore import put_records, restore_cluster
from metropolis.cluster.state import backups, pki
from metropolis.cluster.state.bootstrap import BootstrapRequest
from metropolis.cluster.state.fenced import FencedStore
from metropolis.consensus.scratch import Scratch, memory_scratch
from metropolis.consensus.store import Store
from metropolis.formats.backup.archive import Record
from metropolis.formats.backup.file import BackupReader
from metropolis.host import Entropy
from metropolis.pki.keys import generate_key, raw_public_key


async def read_backup(pieces: AsyncIterator[bytes], reader: BackupReader) -> Content:
    """Read a backup to its end and check that it is the state of a cluster.

    Raises:
        MetropolisError: it is none, or not for this key, or damaged.
    """
    records: list[Record] = []
    async for piece in pieces:
        records += reader.feed(piece)
    records += reader.finish()
    assert reader.header is not None
    return check_content(reader.header, records, reader.check_signature)


async def rehearse_restore(
    pieces: AsyncIterator[bytes], private_key: bytes, entropy: Entropy
) -> Content:
    """Read a backup and restore it, as the first node of new hardware would, into a scratch store.

    Raises:
        InvalidArgumentError: it is no backup.
        FailedPreconditionError: it is encrypted to another key.
        DataLossError: it is damaged, or no cluster comes out of it.
    """
    content = await read_backup(pieces, BackupReader(private_key=private_key))
    request = BootstrapRequest(
        node_public_key=raw_public_key(generate_key(entropy)),
        join_public_key=raw_public_key(generate_key(entropy)),
        owner_public_key=content.owner_public_key,
        configuration=content.configuration,
        tpm_usage=NODE_TPM_USAGE_NOT_PRESENT,
    )
    async with memory_scratch().open() as scratch:
        await restore_cluster(scratch, content, request, entropy)
        for record in content.records:
            # What the restore itself goes on writing: the list of the revoked, and the counting.
            if is_of_old_hardware(record.key) or record.key in (pki.CLUSTER.crl, backups.STATE):
                continue
            found = await scratch.get(record.key)
            if found is None or found.value != record.value:
                raise _differs(record.key)
    return content


async def rehearse(
    pieces: AsyncIterator[bytes], made: Made, original: FencedStore, scratch: Scratch
) -> None:
    """Restore a backup into a scratch store and compare it with the store it was made of.

    Raises:
        UnavailableError: there is no scratch store.
        DataLossError: it is not what the store holds.
        OutOfRangeError: the original's revision was compacted meanwhile.
    """
    content = await read_backup(pieces, BackupReader(file_key=made.file_key))
    if content.header != made.header or len(content.records) != made.records:
        raise _differs(b"")
    async with scratch.open() as store:
        await put_records(store, content.records)
        await _compare(store, original, made.header.revision)


async def _compare(scratch: Store, original: FencedStore, revision: int) -> None:
    restored = _all_records(scratch)
    async with aclosing(restored), aclosing(stored_records(original, revision)) as expected:
        async for record in expected:
            found = await anext(restored, None)
            if found != record:
                raise _differs(record.key)
        if await anext(restored, None) is not None:
            raise _differs(b"")


async def _all_records(store: Store) -> AsyncGenerator[Record, None]:
    revision = (await store.status()).revision
    after = b""
    while True:
        page = await store.page(b"", after=after, revision=revision, limit=PAGE_KEYS)
        for item in page.items:
            yield Record(item.key, item.value)
        if len(page.items) < PAGE_KEYS:
            return
        after = page.items[-1].key


def _differs(key: bytes) -> DataLossError:
    where = f" at key {key[-48:]!r}" if key else ""
    return DataLossError(
        f"the rehearsal failed: what was restored differs from the store{where}",
        remedy="Check the disk of the node, and make another backup.",
    )
