# SPDX-License-Identifier: Apache-2.0
"""Answers about machines, made of the texts that are stored.

A list of a thousand is two megabytes: to decode and encode it again would cost ten times what
reading it costs. So the stored text of a machine has the shape of the answer, and what it refers
to is put in by name, as text, once for the whole list:

    {"id":"…","partitionid":"…","sizeid":"…","imageid":"…","waiting":true,"created":…,"allocation":{…}}
     └── by position ───────────────────────────────────────────────┘└─ passed on ───────────────┘│
                                                                        the image goes in here ───┘
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from metropolis.base.errors import DataLossError
from metropolis.metal.model.event import EVENTS, RecentEventsResponse
from metropolis.metal.model.image import IMAGES, ImageResponse
from metropolis.metal.model.machine import Machine
from metropolis.metal.model.partition import PARTITIONS, PartitionResponse
from metropolis.metal.model.size import (
    SIZES,
    UNKNOWN_SIZE,
    UNKNOWN_SIZE_RESPONSE,
    SizeResponse,
)
from metropolis.metal.store import Kind, Reader, Stored

EntityT = TypeVar("EntityT", bound=msgspec.Struct)

ALL_ABOVE: Final = 200  # machines: for more, everything beside them is read, not their own alone
_encode: Final = msgspec.json.Encoder().encode
_NAMES: Final = [b"partitionid", b"sizeid", b"imageid"]
_WAITING: Final = b'waiting":'
_EVENTS: Final = b',"liveliness":"%b","events":{%b'
_NO_EVENTS: Final = _EVENTS % (b"", _encode(RecentEventsResponse.of(None))[1:])


class _Parts(NamedTuple):
    """A stored machine, taken apart.

    Attributes:
        body: From `created` on, without the closing brace.
    """

    id: bytes
    partition_id: bytes
    size_id: bytes
    image_id: bytes
    body: bytes


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


def _parts(text: bytes) -> _Parts:
    """Take a stored machine apart.

    Raises:
        DataLossError: it was not written by us.
    """
    words = text.split(b'"', 17)
    if words[5:17:4] == _NAMES and words[-1].startswith(_WAITING):
        start = words[-1].index(b",") + 1
        return _Parts(words[3], words[7], words[11], words[15], words[-1][start:-1])
    raise DataLossError(
        "the text of a stored machine does not begin as it should",
        remedy="Restore a backup, or use the release that wrote it.",
    )


def machine_text(text: bytes, around: Surroundings, *, more: bytes = b"") -> bytes:
    """Make the answer about one machine.

    Args:
        text: The stored machine.
        more: Members to add, each with a comma in front.
    """
    machine_id, partition_id, size_id, image_id, body = _parts(text)
    image = around.images.get(image_id, b"")
    return b"".join(
        (
            b'{"id":"',
            machine_id,
            b'",',
            # The allocation is the last member, and the image becomes its last one.
            body[:-1] if image else body,
            image,
            around.events.get(machine_id, _NO_EVENTS),
            around.partitions.get(partition_id, b""),
            around.sizes.get(size_id, b""),
            more,
            b"}",
        )
    )


def list_text(texts: Iterable[bytes]) -> msgspec.Raw:
    """Make a list of answers."""
    return msgspec.Raw(b"[" + b",".join(texts) + b"]")


async def machines_text(reader: Reader, texts: Sequence[bytes]) -> msgspec.Raw:
    """Make the answer about many stored machines."""
    around = await surroundings(reader, texts)
    return list_text([machine_text(text, around) for text in texts])


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
        parts = [_parts(text) for text in texts]
        partitions = await _named(reader, PARTITIONS, (one.partition_id for one in parts))
        sizes = await _named(reader, SIZES, (one.size_id for one in parts))
        images = await _named(reader, IMAGES, (one.image_id for one in parts))
        events = await _events(reader, [one.id for one in parts])
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
    raise DataLossError(
        "the text of stored events does not begin as it should",
        remedy="Restore a backup, or use the release that wrote it.",
    )


def member(name: str, value: Any) -> bytes:  # noqa: ANN401  # whatever is answered
    """A member to add to an object's text."""
    return b"," + _encode(name) + b":" + _encode(value)
