# SPDX-License-Identifier: Apache-2.0
"""Prefixes: create, cut children out of them, give them back, see what is used."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from metropolis.metal.ipam.blocks import (
    COUNT_MAX,
    SMALLEST_HOST_BITS,
    Block,
    Network,
    block_of,
    count_smallest,
    cut,
    network_of,
    pack,
    pack_mark,
    parse_cidr,
    reserved,
    usable,
)
from metropolis.metal.ipam.dialect import for_update
from metropolis.metal.ipam.free_blocks import (
    around,
    fit,
    fit_at_once,
    free_blocks,
    give_back,
    insert_blocks,
)
from metropolis.metal.ipam.namespaces import hold_namespace
from metropolis.metal.store import Reader, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """A prefix in the books.

    Attributes:
        parent: The prefix it was cut out of; empty at the top.
    """

    cidr: str
    parent: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What of a prefix is used. Counts end at 2^31 - 1.

    Attributes:
        available_ips: All addresses of the prefix, used or not.
        acquired_ips: Those taken, with those that are never handed out.
        available_smallest_prefixes: How many /30 or /126 could be cut out.
        available_prefixes: What is free for children, in order.
        acquired_prefixes: Children.
    """

    available_ips: int
    acquired_ips: int
    available_smallest_prefixes: int
    available_prefixes: tuple[str, ...]
    acquired_prefixes: int


async def create_prefix(tx: Transaction, cidr: str, *, namespace: str = "") -> Prefix:
    """Add a top-level prefix.

    Raises:
        InvalidArgumentError: the prefix is none.
        FailedPreconditionError: it overlaps a prefix of the namespace, naming it.
        NotFoundError: there is no such namespace.
    """
    network = parse_cidr(cidr)
    await hold_namespace(tx, namespace)
    await refuse_overlap(tx, network, namespace=namespace)
    return await _insert(tx, network, parent="", namespace=namespace)


async def refuse_overlap(reader: Reader, network: Network, *, namespace: str = "") -> None:
    """Check that no top-level prefix of the namespace overlaps this one.

    Raises:
        FailedPreconditionError: one does, naming it.
    """
    # Those that are there do not overlap each other, so only the last that begins before the end
    # of this one can overlap it.
    rows = await reader.fetch(
        "SELECT cidr FROM (SELECT cidr, last FROM ipam_prefix WHERE namespace = $1"
        " AND parent = '' AND family = $2 AND first <= $4 ORDER BY first DESC LIMIT 1) AS before"
        " WHERE last >= $3",
        namespace,
        network.version,
        *_ends(network),
    )
    for (other,) in rows:
        raise FailedPreconditionError(
            f"prefix {network} overlaps {other}",
            remedy="Choose a prefix that overlaps no other, or another namespace.",
        )


def _ends(network: Network) -> tuple[bytes, bytes]:
    return network.network_address.packed, network.broadcast_address.packed


_INSERT: Final = (
    "INSERT INTO ipam_prefix (namespace, cidr, parent, family, first, last, holds, mark)"
    " VALUES ($1, $2, $3, $4, $5, $6, '', $7)"
)
# In one statement, because it is the round trips to the database that take the time.
_INSERT_CHILD_POSTGRES: Final = (  # noqa: S608  # constants
    "WITH rest AS (INSERT INTO ipam_block (namespace, prefix, first, bits)"
    " SELECT $1, $3, block.first, block.bits"
    " FROM unnest($8::bytea[], $9::bigint[]) AS block (first, bits)) "
) + _INSERT


async def _insert(
    tx: Transaction, network: Network, *, parent: str, namespace: str, rest: Sequence[Block] = ()
) -> Prefix:
    """Add a prefix; and what its parent keeps free of the block out of which it was cut."""
    values = (
        namespace,
        str(network),
        parent,
        network.version,
        *_ends(network),
        pack_mark(usable(network).start),
    )
    if rest and tx.dialect == "postgres":
        firsts = [pack(network, block.first) for block in rest]
        await tx.execute(_INSERT_CHILD_POSTGRES, *values, firsts, [block.bits for block in rest])
    else:
        await insert_blocks(tx, parent, network, rest, namespace)
        await tx.execute(_INSERT, *values)
    return Prefix(cidr=str(network), parent=parent, namespace=namespace)


async def get_prefix(reader: Reader, cidr: str, *, namespace: str = "") -> Prefix:
    """Read one prefix.

    Raises:
        InvalidArgumentError: the prefix is none.
        NotFoundError: it is not in the books.
    """
    prefix, _holds = await _read(reader, parse_cidr(cidr), namespace)
    return prefix


async def _read(
    reader: Reader, network: Network, namespace: str, hold: str = ""
) -> tuple[Prefix, str]:
    rows = await reader.fetch(
        f"SELECT parent, holds FROM ipam_prefix WHERE namespace = $1 AND cidr = $2{hold}",  # noqa: S608  # ours
        namespace,
        str(network),
    )
    if not rows:
        raise NotFoundError(
            f"prefix {network} not found", remedy="Create the prefix, or name another one."
        )
    ((parent, holds),) = rows
    return Prefix(cidr=str(network), parent=parent, namespace=namespace), holds


async def list_prefixes(
    reader: Reader, *, namespace: str = "", parent: str | None = None
) -> list[Prefix]:
    """Return the prefixes of a namespace by family and first address, a parent before its children.

    Args:
        parent: Only its children; the empty one's are those at the top.
    """
    where, args = ("", ()) if parent is None else (" AND parent = $2", (parent,))
    rows = await reader.fetch(
        f"SELECT cidr, parent FROM ipam_prefix WHERE namespace = $1{where}"  # noqa: S608  # ours
        " ORDER BY family, first, last DESC",
        namespace,
        *args,
    )
    return [Prefix(cidr=cidr, parent=above, namespace=namespace) for cidr, above in rows]


async def delete_prefix(tx: Transaction, cidr: str, *, namespace: str = "") -> Prefix:
    """Remove an unused prefix; a child goes back to its parent.

    Raises:
        InvalidArgumentError: the prefix is none.
        NotFoundError: it is not in the books.
        FailedPreconditionError: it has children or addresses.
    """
    network = parse_cidr(cidr)
    prefix, _holds = await _read(tx, network, namespace)
    if prefix.parent:
        parent = parse_cidr(prefix.parent)
        await _read(tx, parent, namespace, for_update(tx))
        await _remove(tx, network, namespace)
        if await give_back(tx, parent, block_of(network), namespace):
            await _set_holds(tx, parent, "", namespace)
    else:
        await hold_namespace(tx, namespace)
        await _remove(tx, network, namespace)
    return prefix


async def _remove(tx: Transaction, network: Network, namespace: str) -> None:
    _prefix, holds = await _read(tx, network, namespace, for_update(tx))
    if holds == "children":
        raise FailedPreconditionError(
            f"prefix {network} has child prefixes", remedy="Release its child prefixes first."
        )
    if holds:
        await _forget_addresses(tx, network, namespace)
    await tx.execute(
        "DELETE FROM ipam_prefix WHERE namespace = $1 AND cidr = $2", namespace, str(network)
    )


async def _forget_addresses(tx: Transaction, network: Network, namespace: str) -> None:
    """Remove the free addresses of a prefix whose row is held, so that nobody can take one.

    Raises:
        FailedPreconditionError: some are taken.
    """
    # Waits for those who are taking one right now; then it is no longer free.
    key = (namespace, str(network))
    await tx.execute("DELETE FROM ipam_free WHERE namespace = $1 AND prefix = $2", *key)
    if await tx.fetch(
        "SELECT 1 FROM ipam_address WHERE namespace = $1 AND prefix = $2 LIMIT 1", *key
    ):
        raise FailedPreconditionError(
            f"prefix {network} has ips", remedy="Release the addresses of the prefix first."
        )


async def acquire_child(
    tx: Transaction,
    parent: str,
    length: int | None = None,
    *,
    child: str | None = None,
    namespace: str = "",
) -> Prefix:
    """Cut a prefix out of another: any of a length (bits), or a certain one.

    Of the free blocks the smallest into which it fits is used, and of those the first.

    Raises:
        InvalidArgumentError: a prefix is none, or the child is not smaller than its parent or
            lies outside.
        NotFoundError: there is no such parent.
        ResourceExhaustedError: nothing of this length is free, saying what is.
        FailedPreconditionError: the parent has addresses, or the certain child is not free.
    """
    assert (length is None) != (child is None), "either a length or a child"
    network = parse_cidr(parent)
    wanted = None if child is None else parse_cidr(child)
    bits = wanted.prefixlen if wanted is not None else length
    assert bits is not None
    _check_child(network, bits, wanted)
    block = None if wanted else await fit_at_once(tx, network, bits, namespace)
    if block is None:
        _prefix, holds = await _read(tx, network, namespace, for_update(tx))
        if holds != "children":
            await _begin_children(tx, network, holds, namespace)
        block = await (
            around(tx, network, wanted, namespace) if wanted else fit(tx, network, bits, namespace)
        )
    cut_out = block_of(wanted) if wanted else Block(first=block.first, bits=bits)
    return await _insert(
        tx,
        network_of(network, cut_out),
        parent=str(network),
        namespace=namespace,
        rest=list(cut(network, block, cut_out)),
    )


def _check_child(network: Network, bits: int, wanted: Network | None) -> None:
    if not network.prefixlen < bits <= network.max_prefixlen:
        raise InvalidArgumentError(
            f"length {bits} of a child must be greater than that of its prefix {network}"
            f" and at most {network.max_prefixlen}",
            remedy="Ask for a greater length, or name a larger prefix.",
        )
    if wanted is not None and (
        wanted.version != network.version or wanted.network_address not in network
    ):
        raise InvalidArgumentError(
            f"child_cidr {wanted} is not in prefix {network}",
            remedy="Name the prefix that contains the child.",
        )


async def _begin_children(tx: Transaction, network: Network, holds: str, namespace: str) -> None:
    """Let a prefix without children have some; all of it is free."""
    if holds:
        await _forget_addresses(tx, network, namespace)
    await _set_holds(tx, network, "children", namespace)
    await insert_blocks(tx, str(network), network, [block_of(network)], namespace)


async def _set_holds(tx: Transaction, network: Network, holds: str, namespace: str) -> None:
    await tx.execute(
        "UPDATE ipam_prefix SET holds = $3, mark = $4 WHERE namespace = $1 AND cidr = $2",
        namespace,
        str(network),
        holds,
        pack_mark(usable(network).start),
    )


async def release_child(tx: Transaction, cidr: str, *, namespace: str = "") -> Prefix:
    """Give an unused child back to its parent.

    Raises:
        InvalidArgumentError: the prefix is none, or no child.
        NotFoundError: it is not in the books.
        FailedPreconditionError: it has children or addresses.
    """
    prefix = await get_prefix(tx, cidr, namespace=namespace)
    if not prefix.parent:
        raise InvalidArgumentError(
            f"prefix {prefix.cidr} is no child prefix", remedy="Delete the prefix instead."
        )
    return await delete_prefix(tx, cidr, namespace=namespace)


async def usage(reader: Reader, cidr: str, *, namespace: str = "") -> Usage:
    """Say what of a prefix is used.

    Raises:
        InvalidArgumentError: the prefix is none.
        NotFoundError: it is not in the books.
    """
    network = parse_cidr(cidr)
    _prefix, holds = await _read(reader, network, namespace)
    free = [block_of(network)]
    if holds == "children":
        free = await free_blocks(reader, network, namespace)
    key = (namespace, str(network))
    ((taken,),) = await reader.fetch(
        "SELECT count(*) FROM ipam_address WHERE namespace = $1 AND prefix = $2", *key
    )
    ((children,),) = await reader.fetch(
        "SELECT count(*) FROM ipam_prefix WHERE namespace = $1 AND parent = $2", *key
    )
    bits_max = network.max_prefixlen - SMALLEST_HOST_BITS
    return Usage(
        available_ips=min(network.num_addresses, COUNT_MAX),
        acquired_ips=min(taken + reserved(network), COUNT_MAX),
        available_smallest_prefixes=count_smallest(network, free),
        available_prefixes=tuple(
            str(network_of(network, block)) for block in free if block.bits <= bits_max
        ),
        acquired_prefixes=children,
    )
