# SPDX-License-Identifier: Apache-2.0
"""Keeps the list of refused peers on disk as new as the one in the store.

etcd reads the file for every connection it accepts, so a removed member is refused from the next
connection on; its open ones are closed by the removal itself.
"""

import asyncio
from typing import Final

from cryptography import x509

from metropolis.base.errors import DataLossError, MetropolisError, chain
from metropolis.consensus.member.files import MemberFiles
from metropolis.consensus.member.status import ConsensusStatus
from metropolis.consensus.store import Store, WatchCompactedError
from metropolis.supervision import Context, Value

RETRY_S: Final = 1.0


async def refresh_crl(
    ctx: Context, *, status: Value[ConsensusStatus | None], key: bytes, files: MemberFiles
) -> None:
    """Run for ever.

    Args:
        key: Where the store holds the CRL (DER).

    Raises:
        DataLossError: what the store holds is no CRL; the old file is kept.
    """
    ctx.healthy()
    while True:
        current = await status.wait_for(lambda value: value is not None)
        assert current is not None
        try:
            await _follow(ctx, current.store, key=key, files=files)
        except DataLossError:
            raise
        except (MetropolisError, WatchCompactedError) as error:
            ctx.log.info("Reading the list of refused peers again: %s", chain(error))
        await asyncio.sleep(RETRY_S)


async def _follow(ctx: Context, store: Store, *, key: bytes, files: MemberFiles) -> None:
    """Write what there is, then every change, until the store is lost."""
    found = await store.range(key)
    for item in found.items:
        if item.key == key:
            await _write(ctx, item.value, files)
    async with store.watch(key, start_revision=found.revision + 1) as watch:
        while True:
            for event in (await watch.receive()).events:
                if event.key == key and not event.is_deleted:
                    await _write(ctx, event.value, files)


async def _write(ctx: Context, crl: bytes, files: MemberFiles) -> None:
    try:
        count = len(x509.load_der_x509_crl(crl))
    except ValueError as cause:  # etcd would refuse every peer
        raise DataLossError(
            "the store's list of refused consensus peers is damaged",
            remedy="Restore the store from a backup.",
        ) from cause
    if await files.write_crl(crl):
        ctx.log.info("Wrote a new list of refused peers, %d long", count)
