# SPDX-License-Identifier: Apache-2.0
"""Addresses of a prefix: acquire any or a certain one, release."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final, Literal

from metropolis.base.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from metropolis.metal.ipam.blocks import (
    Network,
    pack,
    pack_mark,
    parse_address,
    parse_cidr,
    usable,
)
from metropolis.metal.ipam.dialect import for_update
from metropolis.metal.store import Reader, Transaction

# How many addresses are offered when none is free. Writers beside each other take different ones
# of them, and who comes later does not have to move the mark; more would only be unused rows.
BATCH: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address that is taken."""

    address: str
    prefix: str
    namespace: str = ""


async def acquire_address(
    tx: Transaction, prefix: str, address: str | None = None, *, namespace: str = ""
) -> Address:
    """Take an address of a prefix: a certain one, or any.

    Raises:
        NotFoundError: there is no such prefix.
        InvalidArgumentError: the prefix or the address is none, or lies outside.
        AlreadyExistsError: the address is taken, or never handed out.
        ResourceExhaustedError: none is left.
        FailedPreconditionError: the prefix has children.
    """
    if address is not None:
        return await _acquire_certain(tx, parse_cidr(prefix), address, namespace)
    return (await acquire_addresses(tx, prefix, 1, namespace=namespace))[0]


async def acquire_addresses(
    tx: Transaction, prefix: str, count: int, *, namespace: str = ""
) -> list[Address]:
    """Take so many addresses of a prefix, or none of them.

    Raises:
        NotFoundError: there is no such prefix.
        InvalidArgumentError: the prefix is none.
        ResourceExhaustedError: fewer are left.
        FailedPreconditionError: the prefix has children.
    """
    network = parse_cidr(prefix)
    found = await _take_free(tx, network, count, namespace)
    if len(found) < count:
        mark = await _hold_prefix(tx, network, namespace)
        # While this waited for the row, somebody else may have offered some.
        found += await _take_free(tx, network, count - len(found), namespace)
        while len(found) < count:
            mark = await _offer(tx, network, mark, max(BATCH, count - len(found)), namespace)
            found += await _take_free(tx, network, count - len(found), namespace)
    cidr = str(network)
    return [Address(address=text, prefix=cidr, namespace=namespace) for text in found]


# Takes up to $3 of the addresses that are offered and passes over those that others are taking.
# By row number, because PostgreSQL would look for a list of addresses among all that are free.
_TAKE_POSTGRES: Final = """
    WITH chosen AS (
        DELETE FROM ipam_free WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM ipam_free WHERE namespace = $1 AND prefix = $2
            ORDER BY address LIMIT $3 FOR UPDATE SKIP LOCKED))
        RETURNING namespace, prefix, address)
    INSERT INTO ipam_address (namespace, prefix, address) SELECT * FROM chosen RETURNING address"""
_TAKE_SQLITE: Final = """
    DELETE FROM ipam_free WHERE namespace = $1 AND prefix = $2 AND address IN (
        SELECT address FROM ipam_free WHERE namespace = $1 AND prefix = $2
        ORDER BY address LIMIT $3)
    RETURNING address"""


async def _take_free(tx: Transaction, network: Network, count: int, namespace: str) -> list[str]:
    """Take up to so many of the addresses that are offered."""
    key = (namespace, str(network))
    if tx.dialect == "postgres":
        rows = await tx.fetch(_TAKE_POSTGRES, *key, count)
    else:
        rows = await tx.fetch(_TAKE_SQLITE, *key, count)
        await _insert(tx, "ipam_address", key, [packed for (packed,) in rows])
    return texts_of(rows)


def texts_of(rows: Iterable[tuple[Any, ...]]) -> list[str]:
    """Render addresses, in order."""
    return [str(ip_address(packed)) for (packed,) in sorted(rows)]


async def _insert(
    tx: Transaction,
    table: Literal["ipam_address", "ipam_free"],
    key: tuple[str, str],
    packed: Sequence[bytes],
) -> None:
    if not packed:
        return
    into = f"INSERT INTO {table} (namespace, prefix, address)"
    if tx.dialect == "postgres":
        await tx.execute(
            f"{into} SELECT $1, $2, unnest($3::bytea[]) ON CONFLICT DO NOTHING", *key, packed
        )
    else:
        values = ", ".join(f"($1, $2, ${index + 3})" for index in range(len(packed)))
        await tx.execute(f"{into} VALUES {values} ON CONFLICT DO NOTHING", *key, *packed)


async def _hold_prefix(tx: Transaction, network: Network, namespace: str) -> int:
    """Hold the row of a prefix that may have addresses and return its mark."""
    rows = await tx.fetch(
        "SELECT holds, mark FROM ipam_prefix WHERE namespace = $1 AND cidr = $2"  # noqa: S608  # ours
        f"{for_update(tx)}",
        namespace,
        str(network),
    )
    if not rows:
        raise NotFoundError(
            f"prefix {network} not found", remedy="Create the prefix, or name another one."
        )
    ((holds, mark),) = rows
    if holds == "children":
        raise FailedPreconditionError(
            f"prefix {network} has child prefixes, so it has no addresses of its own",
            remedy="Acquire the address from one of its children.",
        )
    return int.from_bytes(mark)


async def _offer(tx: Transaction, network: Network, mark: int, count: int, namespace: str) -> int:
    """Offer the next addresses above the mark and return the new mark."""
    numbers = usable(network)
    batch = range(max(mark, numbers.start), min(max(mark, numbers.start) + count, numbers.stop))
    if not batch:
        raise ResourceExhaustedError(
            f"no address is left in prefix {network}",
            remedy="Release addresses that nobody uses, or add a prefix to the network.",
        )
    key = (namespace, str(network))
    packed = [pack(network, number) for number in batch]
    # Certain ones may be taken already; nobody can take more of these while the row is held.
    rows = await tx.fetch(
        "SELECT address FROM ipam_address WHERE namespace = $1 AND prefix = $2"
        " AND address >= $3 AND address <= $4",
        *key,
        packed[0],
        packed[-1],
    )
    taken = {address for (address,) in rows}
    await _insert(tx, "ipam_free", key, [each for each in packed if each not in taken])
    await tx.execute(
        "UPDATE ipam_prefix SET mark = $3, holds = 'addresses' WHERE namespace = $1 AND cidr = $2",
        namespace,
        str(network),
        pack_mark(batch.stop),
    )
    return batch.stop


async def _acquire_certain(tx: Transaction, network: Network, text: str, namespace: str) -> Address:
    number = _number(network, text)
    if number not in usable(network):
        raise AlreadyExistsError(
            f"ip {text} is already allocated: prefix {network} never hands out its own address"
            " and its broadcast address",
            remedy="Choose another address of the prefix.",
        )
    await _hold_prefix(tx, network, namespace)
    key = (namespace, str(network), pack(network, number))
    # First of all it is no longer offered, so that nobody else can be taking it at the same time.
    await tx.execute(
        "DELETE FROM ipam_free WHERE namespace = $1 AND prefix = $2 AND address = $3", *key
    )
    if not await tx.fetch(
        "INSERT INTO ipam_address (namespace, prefix, address) VALUES ($1, $2, $3)"
        " ON CONFLICT DO NOTHING RETURNING address",
        *key,
    ):
        raise AlreadyExistsError(
            f"ip {text} is already allocated in prefix {network}",
            remedy="Choose another address, or release this one first.",
        )
    await tx.execute(
        "UPDATE ipam_prefix SET holds = 'addresses'"
        " WHERE namespace = $1 AND cidr = $2 AND holds = ''",
        namespace,
        str(network),
    )
    return Address(address=str(parse_address(text)), prefix=str(network), namespace=namespace)


def _number(network: Network, text: str) -> int:
    address = parse_address(text)
    if address not in network:
        raise InvalidArgumentError(
            f"ip {text} is not in prefix {network}",
            remedy="Name the prefix that contains the address.",
        )
    return int(address)


async def release_address(
    tx: Transaction, prefix: str, address: str, *, namespace: str = ""
) -> Address:
    """Give an address back; it may be handed out again at once.

    Raises:
        NotFoundError: the address is not taken, or there is no such prefix.
        InvalidArgumentError: the prefix or the address is none, or lies outside.
    """
    network = parse_cidr(prefix)
    number = _number(network, address)
    key = (namespace, str(network), pack(network, number))
    if not await tx.fetch(
        "DELETE FROM ipam_address WHERE namespace = $1 AND prefix = $2 AND address = $3"
        " RETURNING address",
        *key,
    ):
        raise NotFoundError(
            f"ip {address} is not allocated in prefix {network}",
            remedy="List the addresses of the prefix; it may be released already.",
        )
    await _insert(tx, "ipam_free", key[:2], [key[2]])
    return Address(address=str(parse_address(address)), prefix=str(network), namespace=namespace)


async def list_addresses(reader: Reader, prefix: str, *, namespace: str = "") -> list[Address]:
    """Return the addresses of a prefix that are taken, in order."""
    network = parse_cidr(prefix)
    rows = await reader.fetch(
        "SELECT address FROM ipam_address WHERE namespace = $1 AND prefix = $2 ORDER BY address",
        namespace,
        str(network),
    )
    cidr = str(network)
    return [Address(address=text, prefix=cidr, namespace=namespace) for text in texts_of(rows)]
