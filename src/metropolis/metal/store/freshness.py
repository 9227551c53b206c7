# SPDX-License-Identifier: Apache-2.0
"""Whether something that was made of stored entities may still be used: one small query."""

from collections.abc import Sequence
from typing import Any, Final

from metropolis.metal.store.interface import Kind, Reader

_ONE: Final = "SELECT kind, revision FROM entity WHERE kind = {kind} AND id = {id}"
_KINDS: Final = "SELECT kind, revision FROM kind_revision WHERE kind IN ({kinds})"

State = tuple[tuple[str, int], ...]


async def state_of(
    reader: Reader, kinds: Sequence[Kind[Any]], entities: Sequence[tuple[Kind[Any], str]] = ()
) -> State:
    """Return what differs as soon as one of these entities, or anything of these kinds, changed.

    What is equal was not changed in between, whoever asked, and on whichever replica.
    """
    if not entities:
        return (("", await reader.revision(*kinds)),)
    arguments: list[str] = []

    def place(value: str) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    parts = [_ONE.format(kind=place(kind.name), id=place(key)) for kind, key in entities]
    if kinds:
        parts.append(_KINDS.format(kinds=", ".join(place(kind.name) for kind in kinds)))
    rows = await reader.fetch(" UNION ALL ".join(parts), *arguments)
    return tuple(sorted((str(row[0]), int(row[1])) for row in rows))
