# SPDX-License-Identifier: Apache-2.0
"""Answers about machines, made of the texts that are stored.

A list of a thousand is two megabytes: to decode and encode it again would cost ten times what
reading it costs. So the stored text of a machine has the shape of the answer, and what it refers
to is put in by name, as text, once for the whole list:

    {"id":"…","partitionid":"…","sizeid":"…","imageid":"…","waiting":true,"created":…,"allocation":{…}}
     └── by position ───────────────────────────────────────────────┘└─ passed on ───────────────┘│
                                                                        the image goes in here ───┘
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

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
_NO_EVENTS: Final = (b"", _encode(RecentEventsResponse.of(None)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """A stored machine, taken apart.

    Attributes:
        body: From `created` on, without the closing brace.
    """

    id: str
    partition_id: str
    size_id: str
    image_id: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What answers about machines hold beside the machines, as text, by id.

    Attributes:
        events: Liveliness, and the events.
    """

    partitions: Mapping[str, bytes]
    sizes: Mapping[str, bytes]
    images: Mapping[str, bytes]
    events: Mapping[str, tuple[bytes, bytes]]


def _parts(text: bytes) -> _Parts:
    """Take a stored machine apart.

    Raises:
        DataLossError: it was not written by us.
    """
    words = text.split(b'"', 17)
    if words[5:17:4] == _NAMES and words[-1].startswith(_WAITING):
        start = words[-1].index(b",") + 1
        return _Parts(
            id=words[3].decode(),
            partition_id=words[7].decode(),
            size_id=words[11].decode(),
            image_id=words[15].decode(),
            body=words[-1][start:-1],
        )
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
    parts = _parts(text)
    pieces = [b'{"id":"', parts.id.encode(), b'",']
    image = around.images.get(parts.image_id) if parts.image_id else None
    if image is None:
        pieces.append(parts.body)
    else:  # the allocation is the last member, the image becomes its last one
        pieces += (parts.body[:-1], b',"image":', image, b"}")
    liveliness, events = around.events.get(parts.id, _NO_EVENTS)
    pieces += (b',"events":', events, b',"liveliness":"', liveliness, b'"')
    partition = around.partitions.get(parts.partition_id)
    if partition is not None:
        pieces += (b',"partition":', partition)
    size = around.sizes.get(parts.size_id)
    if size is not None:
        pieces += (b',"size":', size)
    pieces += (more, b"}")
    return b"".join(pieces)


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
        partitions = {
            each.id: _encode(PartitionResponse.of(each)) for each in await reader.find(PARTITIONS)
        }
        sizes = {each.id: _encode(SizeResponse.of(each)) for each in await reader.find(SIZES)}
        images = {each.id: _encode(ImageResponse.of(each)) for each in await reader.find(IMAGES)}
        events = await reader.texts(EVENTS)
    else:
        parts = [_parts(text) for text in texts]
        partitions = {
            key: _encode(PartitionResponse.of(each))
            for key, each in await _named(reader, PARTITIONS, (one.partition_id for one in parts))
        }
        sizes = {
            key: _encode(SizeResponse.of(each))
            for key, each in await _named(reader, SIZES, (one.size_id for one in parts))
        }
        images = {
            key: _encode(ImageResponse.of(each))
            for key, each in await _named(reader, IMAGES, (one.image_id for one in parts))
        }
        events = await _events(reader, [one.id for one in parts])
    sizes[UNKNOWN_SIZE] = _encode(UNKNOWN_SIZE_RESPONSE)
    return Surroundings(
        partitions=partitions,
        sizes=sizes,
        images=images,
        events=dict(_event_text(text) for text in events),
    )


async def _named(
    reader: Reader, kind: Kind[EntityT], ids: Iterable[str]
) -> list[tuple[str, Stored[EntityT]]]:
    """Those of some entities that exist."""
    found = [(key, await reader.lookup(kind, key)) for key in sorted(set(ids) - {""})]
    return [(key, each) for key, each in found if each is not None]


async def _events(reader: Reader, ids: Collection[str]) -> list[bytes]:
    if len(ids) == 1:
        (machine_id,) = ids
        one = await reader.lookup(EVENTS, machine_id)
        return [] if one is None else [_encode(one.value)]
    return await reader.texts(EVENTS, {"id": list(ids)}) if ids else []


def _event_text(text: bytes) -> tuple[str, tuple[bytes, bytes]]:
    """Take stored events apart: machine, liveliness, and what is answered.

    Raises:
        DataLossError: they were not written by us.
    """
    words = text.split(b'"', 8)
    if len(words) == 9 and words[5] == b"liveliness":  # noqa: PLR2004
        return words[3].decode(), (words[7], b"{" + words[8][1:])
    raise DataLossError(
        "the text of stored events does not begin as it should",
        remedy="Restore a backup, or use the release that wrote it.",
    )


def member(name: str, value: Any) -> bytes:  # noqa: ANN401  # whatever is answered
    """A member to add to an object's text."""
    return b"," + _encode(name) + b":" + _encode(value)
