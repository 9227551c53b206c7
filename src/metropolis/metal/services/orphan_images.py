# SPDX-License-Identifier: Apache-2.0
"""A job that forgets images that expired and that nobody uses. Their files are not touched."""

import logging
from datetime import datetime
from functools import partial
from typing import Final

from metropolis.metal.jobs import every
from metropolis.metal.model.image import IMAGES
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.rules.orphan_images import expired
from metropolis.metal.site import Site
from metropolis.metal.store import Reader, Transaction

LOG: Final = logging.getLogger("metropolis.metal.images")
EVERY_S: Final = 3600.0


async def find_orphans(reader: Reader, *, now: datetime) -> list[str]:
    """Return the ids of images that expired and that no machine uses."""
    images = {image.id: image.value for image in await reader.find(IMAGES)}
    return [
        image_id
        for image_id in expired(images, now=now)
        if not await reader.count(MACHINES, {"image": image_id})
    ]


async def remove_orphans(tx: Transaction) -> list[str]:
    """Delete images that expired and are not used; return their ids."""
    gone = await find_orphans(tx, now=tx.now)
    for image_id in gone:
        await tx.delete(await tx.get(IMAGES, image_id))
    return gone


async def run_orphan_images(site: Site) -> None:
    """Remove orphans once an hour, for as long as this replica runs."""

    async def job() -> None:
        # Mostly there are none: then nothing is written, and no writer waits.
        if await site.store.read(partial(find_orphans, now=site.clock.wall())):
            for image_id in await site.store.write(remove_orphans):
                LOG.info("image %s is forgotten: it expired and nobody uses it", image_id)

    await every(EVERY_S, job)
