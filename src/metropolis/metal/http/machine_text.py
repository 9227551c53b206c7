# SPDX-License-Identifier: Apache-2.0
"""Answers about machines, made of the texts that are stored.

A list of a thousand is two megabytes: to decode and encode it again would cost ten times what
reading it costs. So the stored text of a machine has the shape of the answer, and what it refers
to is put in by name, as text, once for the whole list:

    {"id":"…","partitionid":"…","sizeid":"…","imageid":"…","waiting":true,"created":…,"allocation":{…}}
     └── by position ───────────────────────────────────────────────┘└─ passed on ───────────────┘│
                                                                        the image goes in here ───┘
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from metropolis.base.errors import DataLossError
from metropolis.metal.model.event import EVENTS, RecentEventsResponse
from metropolis.metal.model.image import IMAGES, Image, ImageResponse
from metropolis.metal.model.machine import Machine
from metropolis.metal.model.partition import PARTITIONS, Partition, PartitionResponse
from metropolis.metal.model.size import (
    SIZES,
    UNKNOWN_SIZE,
    UNKNOWN_SIZE_RESPONSE,
    Size,
    SizeResponse,
)
from metropolis.metal.store import Kind, Reader, Stored

EntityT = TypeVar("EntityT", bound=msgspec.Struct)

ALL_ABOVE: Final = 200  # machines: for more, everything beside them is read, not their own alone
_encode: Final = msgspec.json.Encoder().encode
# What the names in a list of machines are read from.
NAMED: Final[tuple[Kind[Any], ...]] = (PARTITIONS, SIZES, IMAGES)
_MACHINE_BEGINS: Final = re.compile(
    rb'(\{"id":"[^"]*",)'
    rb'("partitionid":"([^"]*)","sizeid":"([^"]*)","imageid":"([^"]*)","waiting":)[a-z]+,'
)
_EVENTS_BEGIN: Final = re.compile(rb'\{"id":"[^"]*",("liveliness":"[^"]*",)')
_NOT_OURS: Final = "the text of a stored {} does not begin as it should"
_REMEDY: Final = "Restore a backup, or use the release that wrote it."
_NAMES: Final = [b"partitionid", b"sizeid", b"imageid"]
_EVENTS: Final = b',"liveliness":"%b","events":{%b'
_NO_EVENTS: Final = _EVENTS % (b"", _encode(RecentEventsResponse.of(None))[1:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What answers about machines hold beside the machines, as members to add, by id.

    Ids stand as in the texts; of those that are looked up here none has anything to escape.

    Attributes:
        images: With the brace that closes the allocation.
        events: With the liveliness.
    """

    partitions: Mapping[bytes, bytes]
    sizes: Mapping[bytes, bytes]
    images: Mapping[bytes, bytes]
    events: Mapping[bytes, bytes]


# Where a machine ends that is passed on, its image, and its partition and size.
Beside: TypeAlias = tuple[int, bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """All that machines name, at one revision.

    Attributes:
        around: Without events.
        by_text: What is put in, by the part of a machine that names it; filled as it is needed.
    """

    around: Surroundings
    by_text: dict[bytes, Beside] = field(default_factory=dict[bytes, Beside])


def _words(text: bytes) -> list[bytes]:
    """Take a stored machine apart at its first quotation marks.

    Raises:
        DataLossError: it was not written by us.
    """
    words = text.split(b'"', 17)
    if words[5:17:4] == _NAMES:
        return words
    raise DataLossError(_NOT_OURS.format("machine"), remedy=_REMEDY)


def _join(text: bytes, around: Surroundings, pieces: list[bytes]) -> None:
    """Add what an answer about one machine is made of, but for its closing brace."""
    words = _words(text)
    rest = words[17]  # waiting":true,"created":… }
    start = rest.index(b",") + 1
    image = around.images.get(words[15], b"")
    pieces += (
        b'{"id":"',
        words[3],
        b'",',
        # The allocation is the last member, and the image becomes its last one.
        rest[start : -2 if image else -1],
        image,
        around.events.get(words[3], _NO_EVENTS),
        around.partitions.get(words[7], b""),
        around.sizes.get(words[11]) or _size_that_was(words[11]),
    )


def _size_that_was(size_id: bytes) -> bytes:
    """The size of a machine that has one which was deleted since; none when it has none."""
    return b',"size":{"id":"%b","constraints":[],"labels":{}}' % size_id if size_id else b""


def machine_text(text: bytes, around: Surroundings, *, more: bytes = b"") -> bytes:
    """Make the answer about one machine.

    Args:
        text: The stored machine.
        more: Members to add, each with a comma in front.
    """
    pieces: list[bytes] = []
    _join(text, around, pieces)
    return b"".join((*pieces, more, b"}"))


def list_text(texts: Sequence[bytes]) -> msgspec.Raw:
    """Make a list of answers."""
    pieces = [b"["]
    for text in texts:
        pieces += (text, b",")
    pieces[-1] = b"]" if texts else b"[]"
    return msgspec.Raw(b"".join(pieces))


async def names_of(reader: Reader) -> Names:
    """Read all that machines name, for a while (see `Memory`)."""
    partitions = await reader.find(PARTITIONS)
    sizes = await reader.find(SIZES)
    images = await reader.find(IMAGES)
    return Names(around=_around(partitions, sizes, images, ()))


def machines_text(pairs: Iterable[tuple[bytes, bytes | None]], names: Names) -> msgspec.Raw:
    """Make the answer about many machines.

    Args:
        pairs: The text of each, with that of its events.
    """
    pieces = [b"["]
    for text, events in pairs:
        _join_pair(text, events, names, pieces)
        pieces.append(b"},")
    pieces[-1] = b"[]" if len(pieces) == 1 else b"}]"
    return msgspec.Raw(b"".join(pieces))  # once: every copy of megabytes is to be seen


def pair_text(text: bytes, events: bytes | None, names: Names) -> msgspec.Raw:
    """Make the answer about one machine."""
    pieces: list[bytes] = []
    _join_pair(text, events, names, pieces)
    pieces.append(b"}")
    return msgspec.Raw(b"".join(pieces))


def _join_pair(text: bytes, events: bytes | None, names: Names, pieces: list[bytes]) -> None:
    """Add what an answer about one machine is made of, but for its closing brace."""
    found = _MACHINE_BEGINS.match(text)
    if found is None:
        raise DataLossError(_NOT_OURS.format("machine"), remedy=_REMEDY)
    end, image, rest = names.by_text.get(found[2]) or _named_beside(found, names)
    pieces += (found[1], text[found.end() : end], image)
    if events is None:
        pieces += (_NO_EVENTS, rest)
        return
    begun = _EVENTS_BEGIN.match(events)
    if begun is None:
        raise DataLossError(_NOT_OURS.format("event container"), remedy=_REMEDY)
    pieces += (b",", begun[1], b'"events":{', events[begun.end() :], rest)


def _named_beside(found: re.Match[bytes], names: Names) -> Beside:
    """Remember what is put in for machines of this partition, size and image."""
    around = names.around
    image = around.images.get(found[5], b"")
    size = around.sizes.get(found[4]) or _size_that_was(found[4])
    beside = (-2 if image else -1, image, around.partitions.get(found[3], b"") + size)
    names.by_text[found[2]] = beside
    return beside


async def one_machine(reader: Reader, machine: Stored[Machine]) -> msgspec.Raw:
    """Make the answer about one machine."""
    text = _encode(machine.value)
    return msgspec.Raw(machine_text(text, await surroundings(reader, [text])))


async def surroundings(reader: Reader, texts: Sequence[bytes]) -> Surroundings:
    """Read what some stored machines refer to."""
    if len(texts) > ALL_ABOVE:
        partitions = await reader.find(PARTITIONS)
        sizes = await reader.find(SIZES)
        images = await reader.find(IMAGES)
        events = await reader.texts(EVENTS)
    else:
        words = [_words(text) for text in texts]
        partitions = await _named(reader, PARTITIONS, (one[7] for one in words))
        sizes = await _named(reader, SIZES, (one[11] for one in words))
        images = await _named(reader, IMAGES, (one[15] for one in words))
        events = await _events(reader, [one[3] for one in words])
    return _around(partitions, sizes, images, events)


def _around(
    partitions: Iterable[Stored[Partition]],
    sizes: Iterable[Stored[Size]],
    images: Iterable[Stored[Image]],
    events: Iterable[bytes],
) -> Surroundings:
    sizes_text = {each.id.encode(): member("size", SizeResponse.of(each)) for each in sizes}
    sizes_text[UNKNOWN_SIZE.encode()] = member("size", UNKNOWN_SIZE_RESPONSE)
    return Surroundings(
        partitions={
            each.id.encode(): member("partition", PartitionResponse.of(each)) for each in partitions
        },
        sizes=sizes_text,
        images={
            each.id.encode(): member("image", ImageResponse.of(each)) + b"}" for each in images
        },
        events=dict(_event_text(text) for text in events),
    )


async def _named(
    reader: Reader, kind: Kind[EntityT], ids: Iterable[bytes]
) -> list[Stored[EntityT]]:
    """Those of some entities that exist."""
    found = [await reader.lookup(kind, key.decode()) for key in sorted(set(ids) - {b""})]
    return [each for each in found if each is not None]


async def _events(reader: Reader, ids: Sequence[bytes]) -> list[bytes]:
    if len(ids) == 1:
        one = await reader.lookup(EVENTS, ids[0].decode())
        return [] if one is None else [_encode(one.value)]
    return await reader.texts(EVENTS, {"id": [each.decode() for each in ids]}) if ids else []


def _event_text(text: bytes) -> tuple[bytes, bytes]:
    """Take stored events apart: the machine, and the members that are answered.

    Raises:
        DataLossError: they were not written by us.
    """
    words = text.split(b'"', 8)
    if words[5:6] == [b"liveliness"]:
        return words[3], _EVENTS % (words[7], words[8][1:])
    raise DataLossError(_NOT_OURS.format("event container"), remedy=_REMEDY)


def member(name: str, value: Any) -> bytes:  # noqa: ANN401  # whatever is answered
    """A member to add to an object's text."""
    return b"," + _encode(name) + b":" + _encode(value)
