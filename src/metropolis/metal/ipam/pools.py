# SPDX-License-Identifier: Apache-2.0
"""Pools of integers: VRF ids and AS numbers.

Freed integers are used again before new ones are begun. An integer may have several holders when
they say that they share it; it is free when the last of them released it.
"""

from dataclasses import dataclass

from metropolis.base.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from metropolis.metal.ipam.dialect import by_index, for_update, skip_locked
from metropolis.metal.store import Reader, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A range of integers, both ends included."""

    name: str
    first: int
    last: int


VRF = Pool(name="vrf", first=1, last=131072)
ASN = Pool(name="asn", first=1, last=131072)

# AS numbers of machines are private ones of 32 bits: this, and an integer of the pool.
ASN_BASE = 4_210_000_000


async def acquire_integer(
    tx: Transaction, pool: Pool, value: int | None = None, *, shared: bool = False
) -> int:
    """Take an integer of a pool: a certain one, or any.

    Args:
        shared: With a value: become one more holder of it if it is taken.

    Raises:
        InvalidArgumentError: the value is outside the pool.
        AlreadyExistsError: the value is taken.
        ResourceExhaustedError: none is left.
    """
    if value is not None:
        return await _acquire_certain(tx, pool, value, shared=shared)
    rows = await tx.fetch(
        "UPDATE ipam_integer SET holders = 1 WHERE pool = $1 AND value ="  # noqa: S608  # ours
        f" (SELECT value FROM ipam_integer{by_index(tx, 'ipam_integer_free')}"
        " WHERE pool = $1 AND holders = 0 ORDER BY value LIMIT 1"
        f"{skip_locked(tx)}) RETURNING value",
        pool.name,
    )
    for (freed,) in rows:
        return int(freed)
    return await _begin(tx, pool)


async def _acquire_certain(tx: Transaction, pool: Pool, value: int, *, shared: bool) -> int:
    if not pool.first <= value <= pool.last:
        raise InvalidArgumentError(
            f"{pool.name} {value} is not between {pool.first} and {pool.last}",
            remedy="Choose a value of this range, or none to be given one.",
        )
    limit = "" if shared else " WHERE ipam_integer.holders = 0"
    if not await tx.fetch(
        "INSERT INTO ipam_integer (pool, value, holders) VALUES ($1, $2, 1)"  # noqa: S608  # ours
        " ON CONFLICT (pool, value) DO UPDATE SET holders = ipam_integer.holders + 1"
        f"{limit} RETURNING value",
        pool.name,
        value,
    ):
        raise AlreadyExistsError(
            f"{pool.name} {value} is already in use",
            remedy="Choose another value, or share it where that is wanted.",
        )
    return value


async def _begin(tx: Transaction, pool: Pool) -> int:
    """Take the next integer that nobody ever had."""
    await tx.execute(
        "INSERT INTO ipam_pool (name, mark) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        pool.name,
        pool.first,
    )
    query = f"SELECT mark FROM ipam_pool WHERE name = $1{for_update(tx)}"  # noqa: S608  # ours
    ((mark,),) = await tx.fetch(query, pool.name)
    for value in range(mark, pool.last + 1):
        if await tx.fetch(
            "INSERT INTO ipam_integer (pool, value, holders) VALUES ($1, $2, 1)"
            " ON CONFLICT DO NOTHING RETURNING value",
            pool.name,
            value,
        ):
            await tx.execute("UPDATE ipam_pool SET mark = $2 WHERE name = $1", pool.name, value + 1)
            return value
    raise ResourceExhaustedError(
        f"no integer is left in pool {pool.name}", remedy="Delete what nobody uses."
    )


async def release_integer(tx: Transaction, pool: Pool, value: int) -> None:
    """Give an integer back; with several holders it stays taken until the last one does.

    Raises:
        NotFoundError: it is not taken.
    """
    if not await tx.fetch(
        "UPDATE ipam_integer SET holders = holders - 1"
        " WHERE pool = $1 AND value = $2 AND holders > 0 RETURNING value",
        pool.name,
        value,
    ):
        raise NotFoundError(
            f"{pool.name} {value} is not in use", remedy="It may be released already."
        )


async def list_integers(reader: Reader, pool: Pool) -> dict[int, int]:
    """Return the integers that are taken, in order, with how many hold each."""
    rows = await reader.fetch(
        "SELECT value, holders FROM ipam_integer WHERE pool = $1 AND holders > 0 ORDER BY value",
        pool.name,
    )
    return dict(rows)


async def acquire_asn(tx: Transaction) -> int:
    """Take an AS number.

    Raises:
        ResourceExhaustedError: none is left.
    """
    return ASN_BASE + await acquire_integer(tx, ASN)


async def release_asn(tx: Transaction, asn: int) -> None:
    """Give an AS number back.

    Raises:
        NotFoundError: it is not taken.
    """
    await release_integer(tx, ASN, asn - ASN_BASE)
