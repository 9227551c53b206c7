# SPDX-License-Identifier: Apache-2.0
"""The free blocks of parents, as rows: taken whole, split in halves, joined again.

All but `fit_at_once` need the row of the parent to be held.
"""

from collections.abc import Sequence
from typing import Final

from metropolis.base.errors import FailedPreconditionError, ResourceExhaustedError
from metropolis.metal.ipam.blocks import Block, Network, buddy, network_of, pack, whole
from metropolis.metal.store import Reader, Transaction

_TOLD_MAX: Final = 8  # free blocks in the text of an error

_FIT: Final = """
    DELETE FROM ipam_block WHERE namespace = $1 AND prefix = $2 AND first =
        (SELECT first FROM ipam_block WHERE namespace = $1 AND prefix = $2 AND bits <= $3
        ORDER BY bits DESC, first LIMIT 1)
    RETURNING first, bits"""
_FIT_AT_ONCE: Final = """
    WITH parent AS (
        SELECT cidr FROM ipam_prefix
        WHERE namespace = $1 AND cidr = $2 AND holds = 'children' FOR UPDATE)
    DELETE FROM ipam_block WHERE namespace = $1 AND prefix = $2 AND first =
        (SELECT first FROM ipam_block WHERE EXISTS (SELECT 1 FROM parent)
        AND namespace = $1 AND prefix = $2 AND bits <= $3
        ORDER BY bits DESC, first LIMIT 1)
    RETURNING first, bits"""


async def insert_blocks(
    tx: Transaction, prefix: str, network: Network, blocks: Sequence[Block], namespace: str
) -> None:
    """Make blocks of a prefix free that have no neighbour to be joined with.

    Args:
        network: Any of the same family.
    """
    if blocks:
        values = ", ".join(
            f"($1, $2, ${2 * index + 3}, ${2 * index + 4})" for index in range(len(blocks))
        )
        await tx.execute(
            f"INSERT INTO ipam_block (namespace, prefix, first, bits) VALUES {values}",  # noqa: S608  # places
            namespace,
            prefix,
            *(part for block in blocks for part in (pack(network, block.first), block.bits)),
        )


async def fit_at_once(tx: Transaction, network: Network, bits: int, namespace: str) -> Block | None:
    """Hold the row of a parent with children and take a block, in one statement.

    None when that is not to be had so: a database where it saves nothing, no such parent, none
    with children, nothing free, or somebody else was taking the same block.
    """
    if tx.dialect != "postgres":
        return None
    rows = await tx.fetch(_FIT_AT_ONCE, namespace, str(network), bits)
    return next((Block(first=int.from_bytes(first), bits=found) for first, found in rows), None)


async def fit(tx: Transaction, network: Network, bits: int, namespace: str) -> Block:
    """Take the smallest free block into which a child of so many bits fits."""
    rows = await tx.fetch(_FIT, namespace, str(network), bits)
    for first, found in rows:
        return Block(first=int.from_bytes(first), bits=found)
    free = await free_blocks(tx, network, namespace)
    rest = ", ".join(str(network_of(network, block)) for block in free[:_TOLD_MAX]) or "nothing"
    more = f" and {len(free) - _TOLD_MAX} more" if len(free) > _TOLD_MAX else ""
    raise ResourceExhaustedError(
        f"no prefix of length {bits} is left in {network}: {rest}{more} is free",
        remedy="Ask for a greater length, or release child prefixes that nobody uses.",
    )


async def around(tx: Transaction, network: Network, wanted: Network, namespace: str) -> Block:
    """Take the free block that contains a certain child."""
    # Free blocks are disjoint: only the last that begins before the child can contain it.
    first, last = wanted.network_address.packed, wanted.broadcast_address.packed
    rows = await tx.fetch(
        "SELECT first, bits FROM ipam_block WHERE namespace = $1 AND prefix = $2 AND first <= $3"
        " ORDER BY first DESC LIMIT 1",
        namespace,
        str(network),
        first,
    )
    for packed, bits in rows:
        block = Block(first=int.from_bytes(packed), bits=bits)
        if last <= network_of(network, block).broadcast_address.packed:
            await _take_block(tx, network, block, namespace)
            return block
    raise FailedPreconditionError(
        f"prefix {wanted} is not available in prefix {network}",
        remedy="Choose a child that is free, or ask for one by its length.",
    )


async def _take_block(tx: Transaction, network: Network, block: Block, namespace: str) -> bool:
    rows = await tx.fetch(
        "DELETE FROM ipam_block WHERE namespace = $1 AND prefix = $2 AND first = $3 AND bits = $4"
        " RETURNING bits",
        namespace,
        str(network),
        pack(network, block.first),
        block.bits,
    )
    return bool(rows)


async def give_back(tx: Transaction, network: Network, block: Block, namespace: str) -> bool:
    """Make a block of a parent free, joined with whatever free blocks make it a greater one.

    Returns:
        Whether all of the parent is free now; then it has no blocks any more.
    """
    while block.bits > network.prefixlen and await _take_block(
        tx, network, buddy(network, block), namespace
    ):
        block = whole(network, block)
    if block.bits == network.prefixlen:
        return True
    await insert_blocks(tx, str(network), network, [block], namespace)
    return False


async def free_blocks(reader: Reader, network: Network, namespace: str) -> list[Block]:
    """Return the free blocks of a parent that has children, in order."""
    rows = await reader.fetch(
        "SELECT first, bits FROM ipam_block WHERE namespace = $1 AND prefix = $2 ORDER BY first",
        namespace,
        str(network),
    )
    return [Block(first=int.from_bytes(first), bits=bits) for first, bits in rows]
