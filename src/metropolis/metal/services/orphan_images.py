# SPDX-License-Identifier: Apache-2.0
"""A job that forgets images that expired and that nobody uses. Their files are not touched."""

import logging
from typing import Final

from metropolis.metal.jobs import every
from metropolis.metal.model.image import IMAGES
from metropolis.metal.rules.orphan_images import orphans
from metropolis.metal.services.images import usage
from metropolis.metal.site import Site
from metropolis.metal.store import Reader, Transaction

LOG: Final = logging.getLogger("metropolis.metal.images")
EVERY_S: Final = 24 * 3600.0


async def remove_orphans(tx: Transaction) -> list[str]:
    """Delete images that expired and are not used; return their ids."""
    images = {image.id: image for image in await tx.find(IMAGES)}
    values = {image_id: image.value for image_id, image in images.items()}
    gone = orphans(values, used=set(await usage(tx)), now=tx.now)
    for image_id in gone:
        await tx.delete(images[image_id])
    return gone


async def run_orphan_images(site: Site) -> None:
    """Remove orphans once a day, for as long as this replica runs."""

    async def job() -> None:
        # Mostly there are none: then nothing is written, and nobody waits.
        now = site.clock.wall()

        async def look(reader: Reader) -> list[str]:
            values = {image.id: image.value for image in await reader.find(IMAGES)}
            return orphans(values, used=set(await usage(reader)), now=now)

        if await site.store.read(look):
            for image_id in await site.store.write(remove_orphans):
                LOG.info("image %s is forgotten: it expired and nobody uses it", image_id)

    await every(EVERY_S, job)
