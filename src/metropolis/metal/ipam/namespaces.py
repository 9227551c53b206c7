# SPDX-License-Identifier: Apache-2.0
"""Namespaces of prefixes: prefixes of different ones may overlap.

The empty name is the root namespace, which is always there.
"""

import re

from metropolis.base.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from metropolis.metal.ipam.dialect import for_update
from metropolis.metal.store import Reader, Transaction

ROOT = ""
ROOT_NAME = "root"  # what clients may call it

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


async def create_namespace(tx: Transaction, name: str) -> None:
    """Add a namespace.

    Raises:
        AlreadyExistsError: there is one of this name.
        InvalidArgumentError: the name is not allowed.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgumentError(
            f"namespace {name[:64]!r} is no name for a namespace",
            remedy="Use up to 128 letters, digits, dots, dashes and underscores.",
        )
    if name == ROOT_NAME or not await tx.fetch(
        "INSERT INTO ipam_namespace (name) VALUES ($1) ON CONFLICT DO NOTHING RETURNING name", name
    ):
        raise AlreadyExistsError(
            f"namespace {name!r} exists", remedy="Use it, or choose another name."
        )


async def list_namespaces(reader: Reader) -> list[str]:
    """Return the names of all namespaces, the root's empty one first."""
    return [name for (name,) in await reader.fetch("SELECT name FROM ipam_namespace ORDER BY name")]


async def delete_namespace(tx: Transaction, name: str) -> None:
    """Remove an empty namespace.

    Raises:
        NotFoundError: there is none.
        FailedPreconditionError: it has prefixes, or it is the root.
    """
    if name == ROOT:
        raise FailedPreconditionError(
            "the root namespace cannot be deleted", remedy="Name another namespace."
        )
    await hold_namespace(tx, name)
    if await tx.fetch("SELECT 1 FROM ipam_prefix WHERE namespace = $1 LIMIT 1", name):
        raise FailedPreconditionError(
            f"namespace {name!r} has prefixes", remedy="Delete its prefixes first."
        )
    await tx.execute("DELETE FROM ipam_namespace WHERE name = $1", name)


async def check_namespace(reader: Reader, name: str) -> None:
    """Check that a namespace is there.

    Raises:
        NotFoundError: there is none.
    """
    if not await reader.fetch("SELECT name FROM ipam_namespace WHERE name = $1", name):
        raise _not_found(name)


async def hold_namespace(tx: Transaction, name: str) -> None:
    """Keep others from changing which top-level prefixes a namespace has, until the commit.

    Raises:
        NotFoundError: there is none.
    """
    query = f"SELECT name FROM ipam_namespace WHERE name = $1{for_update(tx)}"  # noqa: S608  # ours
    if not await tx.fetch(query, name):
        raise _not_found(name)


def _not_found(name: str) -> NotFoundError:
    return NotFoundError(f"namespace {name!r} not found", remedy="Create the namespace first.")
