# SPDX-License-Identifier: Apache-2.0
"""A namespace as a text, and back: to look at, or to carry it into another database."""

import msgspec

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.metal.ipam.addresses import acquire_address, list_addresses
from metropolis.metal.ipam.namespaces import check_namespace, hold_namespace
from metropolis.metal.ipam.prefixes import acquire_child, create_prefix, list_prefixes
from metropolis.metal.store import Reader, Transaction


class DumpedPrefix(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A prefix with its addresses that are taken."""

    cidr: str
    parent: str = ""
    ips: tuple[str, ...] = ()


class Dump(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything of a namespace, a parent before its children."""

    prefixes: tuple[DumpedPrefix, ...]


async def dump(reader: Reader, *, namespace: str = "") -> str:
    """Write down a namespace as JSON.

    Raises:
        NotFoundError: there is no such namespace.
    """
    await check_namespace(reader, namespace)
    found: list[DumpedPrefix] = []
    for each in await list_prefixes(reader, namespace=namespace):
        taken = await list_addresses(reader, each.cidr, namespace=namespace)
        found.append(
            DumpedPrefix(
                cidr=each.cidr, parent=each.parent, ips=tuple(one.address for one in taken)
            )
        )
    return msgspec.json.encode(Dump(prefixes=tuple(found))).decode()


async def load(tx: Transaction, text: str, *, namespace: str = "") -> None:
    """Fill an empty namespace with what was written down.

    Raises:
        InvalidArgumentError: the text is no dump, or contradicts itself.
        FailedPreconditionError: the namespace has prefixes.
        NotFoundError: there is no such namespace.
    """
    await hold_namespace(tx, namespace)
    if await list_prefixes(tx, namespace=namespace):
        raise FailedPreconditionError(
            f"namespace {namespace!r} has prefixes", remedy="Load into an empty namespace."
        )
    try:
        wanted = msgspec.json.decode(text, type=Dump)
    except (msgspec.DecodeError, UnicodeError) as cause:
        raise InvalidArgumentError(
            f"dump is not what Dump returned: {cause}", remedy="Send the text unchanged."
        ) from cause
    for each in wanted.prefixes:
        if each.parent:
            await acquire_child(tx, each.parent, child=each.cidr, namespace=namespace)
        else:
            await create_prefix(tx, each.cidr, namespace=namespace)
        for address in each.ips:
            await acquire_address(tx, each.cidr, address, namespace=namespace)
