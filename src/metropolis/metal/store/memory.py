# SPDX-License-Identifier: Apache-2.0
"""What is made of few stored entities and wanted by every call: made once, until one changes."""

from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

from metropolis.metal.store.interface import Reader

ValueT = TypeVar("ValueT")


class Memory:
    """Values of one replica; what is not there is only slower, once.

    A value is good for one revision of the kinds it was made of. Whoever wants it has read that
    revision in the same view as everything else, so it is never older than what it is used with.
    """

    def __init__(self) -> None:
        self._values: dict[object, tuple[int, object]] = {}

    def known(self, make: Callable[[Reader], Awaitable[ValueT]], revision: int) -> ValueT | None:
        """Return what `make` returned, if that was for this revision."""
        known = self._values.get(make)
        return cast("ValueT", known[1]) if known is not None and known[0] == revision else None

    async def recall(
        self, make: Callable[[Reader], Awaitable[ValueT]], reader: Reader, revision: int
    ) -> ValueT:
        """Return what `make` returns for a revision of the kinds that it reads.

        Args:
            reader: Of a view, not of a transaction: that may have changed them itself.
        """
        known = self.known(make, revision)
        if known is not None:
            return known
        made = await make(reader)
        self._values[make] = (revision, made)
        return made
