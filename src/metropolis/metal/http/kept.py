# SPDX-License-Identifier: Apache-2.0
"""Answers as the bytes they were sent as, for as long as nothing they tell of has changed.

What is kept is worth nothing by itself: every request asks the database for the revisions of the
kinds and entities that the answer depends on. So any number of replicas answer alike, and a replica
that lost everything it held is only slower, once.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from metropolis.metal.http.lists import Rows
from metropolis.metal.store import Kind, Reader, Store
from metropolis.metal.store.freshness import State, state_of

PLACES_MAX: Final = 4096
_TAG_BYTES: Final = 16


@dataclass(slots=True, kw_only=True)
class Body:
    """An encoded answer.

    Attributes:
        state: Of what it depends on, when it was begun to be made.
        tag: For `ETag`.
        rows: The body taken apart, once somebody wanted a part of it.
    """

    state: State
    body: bytes
    tag: str
    rows: Rows | None = None

    @property
    def revision(self) -> int:
        """The newest change that it tells of; later ones may be in it, too."""
        return max((revision for _, revision in self.state), default=0)

    def taken_apart(self, key: tuple[str, ...]) -> Rows:
        """Return the rows of a list."""
        if self.rows is None:
            self.rows = Rows(self.body, key)
        return self.rows


@dataclass(slots=True)
class _Place:
    body: Body | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Shelf:
    """The answers that one replica keeps; the one that was asked for longest ago goes first.

    Attributes:
        is_used: Whether anything is kept at all.
    """

    def __init__(self, store: Store, *, bytes_max: int) -> None:
        self._store = store
        self.is_used = bytes_max > 0
        self._bytes_max = bytes_max
        self._bytes = 0
        self._places: OrderedDict[Hashable, _Place] = OrderedDict()

    async def get(
        self,
        key: Hashable,
        kinds: Sequence[Kind[Any]],
        make: Callable[[], Awaitable[bytes]],
        *,
        entities: Sequence[tuple[Kind[Any], str]] = (),
    ) -> Body:
        """Return an answer that is as new as this call; make it if it is not.

        Args:
            key: Everything that decides the answer but what is stored.
            kinds: Any change of these changes the answer.
            entities: So does a change of these.
        """
        state = await self._state(kinds, entities)
        place = self._places.get(key)
        if place is None:
            if len(self._places) >= PLACES_MAX:
                self._drop_oldest()
            place = self._places[key] = _Place()
        self._places.move_to_end(key)
        kept = place.body
        if kept is not None and kept.state == state:
            return kept
        has_to_wait = place.lock.locked()
        async with place.lock:  # one makes it, the others wait for that
            if has_to_wait:
                state = await self._state(kinds, entities)
                kept = place.body
                if kept is not None and kept.state == state:
                    return kept
            body = await make()
            made = Body(state=state, body=body, tag=tag_of(body))
            self._put(key, place, made)
            return made

    async def revision(self) -> int:
        """Return the revision of the last change of anything."""
        return await self._store.read(_revision)

    async def _state(
        self, kinds: Sequence[Kind[Any]], entities: Sequence[tuple[Kind[Any], str]]
    ) -> State:
        async def view(reader: Reader) -> State:
            return await state_of(reader, kinds, entities)

        return await self._store.read(view)

    def _put(self, key: Hashable, place: _Place, made: Body) -> None:
        if self._places.get(key) is place:
            self._bytes += len(made.body) - (len(place.body.body) if place.body is not None else 0)
            place.body = made
        while self._bytes > self._bytes_max and self._places:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, oldest = self._places.popitem(last=False)
        if oldest.body is not None:
            self._bytes -= len(oldest.body.body)


async def _revision(reader: Reader) -> int:
    return await reader.revision()


def tag_of(body: bytes) -> str:
    """Return a strong entity tag."""
    return f'"{blake2b(body, digest_size=_TAG_BYTES).hexdigest()}"'


def matches(header: str, tag: str) -> bool:
    """Whether an `If-None-Match` header names this tag."""
    names = [each.strip().removeprefix("W/") for each in header.split(",")]
    return tag in names or "*" in names
