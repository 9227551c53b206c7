# SPDX-License-Identifier: Apache-2.0
"""What every consensus member does when the leader orders it: leave no deleted secret on its disk.

The order is a number that grows. Each member writes down which number it has carried out, so one
that was off carries the newest one out when it is back. The leader may not write for it, and it
writes nothing else: hence a key of its own, outside the fence.
"""

import asyncio
from typing import Final

from google.protobuf.message import DecodeError

from metropolis.api.decommission_pb2 import ScrubRecord
from metropolis.base.errors import MetropolisError, chain
from metropolis.base.ids import NodeId
from metropolis.cluster.state import keys
from metropolis.consensus.store import Put, Store, WatchCompactedError
from metropolis.supervision import Logger

RETRY_S: Final = 2.0


async def keep_scrubbed(store: Store, node_id: NodeId, log: Logger) -> None:
    """Carry out every order, for as long as this node is a consensus member."""
    while True:
        try:
            await _follow(store, node_id, log)
        except MetropolisError as error:
            log.warning("Cannot follow orders to scrub the database: %s", chain(error))
        except WatchCompactedError:
            continue
        await asyncio.sleep(RETRY_S)


async def _follow(store: Store, node_id: NodeId, log: Logger) -> None:
    while True:
        found = await store.range(keys.SCRUB)
        orders = {item.key: _order(item.value) for item in found.items}
        order = orders.get(keys.SCRUB_ORDER, 0)
        done = orders.get(keys.scrub_answer(node_id), 0)
        if order > done:
            await scrub(store, node_id, order=order, done=done)
            log.info("Removed deleted keys from the database file, as order %d asks", order)
            continue
        async with store.watch(keys.SCRUB_ORDER, start_revision=found.revision + 1) as watch:
            while not (await watch.receive()).events:
                pass


async def scrub(store: Store, node_id: NodeId, *, order: int, done: int) -> None:
    """Carry one order out and write that down.

    Every attempt writes first: only who compacts to a revision of its own, newer than everybody
    else's, is told when its own member has really dropped what is compacted.
    """
    key = keys.scrub_answer(node_id)
    while True:
        written = await store.transact((), [Put(key, _record(done))])
        if await store.scrub(written.revision):
            break
    await store.transact((), [Put(key, _record(order))])


def _record(order: int) -> bytes:
    return ScrubRecord(order=order).SerializeToString(deterministic=True)


def _order(value: bytes) -> int:
    try:
        return ScrubRecord.FromString(value).order
    except DecodeError:
        return 0  # a damaged answer is given again; a damaged order is not carried out


def read_order(value: bytes | None) -> int:
    """Return the number in an order or an answer; 0 without one."""
    return 0 if value is None else _order(value)
