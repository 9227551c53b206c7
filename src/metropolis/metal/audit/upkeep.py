# SPDX-License-Identifier: Apache-2.0
"""Forgets what need not be known any longer, every minute, on every replica alike."""

import asyncio
import logging
from typing import Final

from metropolis.base.errors import MetropolisError, chain
from metropolis.metal.access import salts
from metropolis.metal.audit import trace
from metropolis.metal.site import Site
from metropolis.metal.store import Transaction

LOG: Final = logging.getLogger("metropolis.metal.audit")
EVERY_S: Final = 60.0


async def forget(site: Site) -> None:
    """Delete expired signatures and old audit rows until cancelled."""
    while True:
        try:
            await site.store.write(_forget, serial=False)
        except MetropolisError as error:
            LOG.warning("old audit rows were not deleted: %s", chain(error))
        await asyncio.sleep(EVERY_S)


async def _forget(tx: Transaction) -> None:
    await salts.forget(tx)
    await trace.forget(tx)
