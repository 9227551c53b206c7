# SPDX-License-Identifier: Apache-2.0
"""What is on a disk, as far as an installation must know it. Reads, never writes."""

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from metropolis.base.errors import DataLossError
from metropolis.formats import fat, gpt
from metropolis.host.disk_writing import SECTOR_BYTES
from metropolis.node.installation.disk import MIB
from metropolis.node.installation.mark import decode_mark
from metropolis.node.installation.target import Holding
from metropolis.node.storage import ENROLMENT_RECORD, SEALED_CONFIGURATION

Read = Callable[[int, int], bytes]  # offset, size; a disk that fails raises OSError

_ESP: Final = "esp/"
# Beginnings of paths on the ESP of a machine that has begun to become a node: copies have suffixes.
_OF_A_NODE: Final = tuple(
    place.path.removeprefix(_ESP) for place in (SEALED_CONFIGURATION, ENROLMENT_RECORD)
)
_LOOKED_AT_BYTES: Final = MIB  # superblocks and labels lie in the first or last of them
_MBR_ENTRY: Final = struct.Struct("<B3xB3xII")
_MBR_TABLE: Final = 446
_PROTECTIVE: Final = 0xEE


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What was found.

    Attributes:
        guid: Of the partition table, or what a mark promises.
        partitions: Name and size of each, for people.
        partition_guids: Of each.
    """

    holding: Holding
    guid: UUID | None = None
    partitions: Sequence[str] = ()
    partition_guids: Sequence[UUID] = ()


def inspect(read: Read, *, disk_bytes: int) -> Content:
    """Look at a disk.

    A system whose ESP cannot be read counts as a node: it may have been one.

    Raises:
        OSError: the disk failed.
    """
    mark = decode_mark(read(SECTOR_BYTES, SECTOR_BYTES))
    try:
        table = gpt.decode(read, disk_bytes=disk_bytes)
    except DataLossError:
        if mark is not None:
            return Content(holding=Holding.UNFINISHED, guid=mark)
        return _without_table(read, disk_bytes)
    found = Content(
        holding=Holding.OTHER,
        guid=table.disk_guid,
        partitions=tuple(
            _named(each.name, each.sectors * table.sector_bytes) for each in table.partitions
        ),
        partition_guids=tuple(each.guid for each in table.partitions),
    )
    by_type = {each.type_guid: each for each in table.partitions}
    esp = by_type.get(gpt.ESP_TYPE)
    is_ours = gpt.DATA_TYPE in by_type and gpt.SYSTEM_A_TYPE in by_type
    if not is_ours or esp is None:
        return found
    offset = esp.first_lba * table.sector_bytes
    holding = Holding.SYSTEM if _is_before_enrolment(read, offset) else Holding.NODE
    return replace(found, holding=holding)


def _is_before_enrolment(read: Read, esp_offset: int) -> bool:
    try:
        paths: Iterable[str] = fat.decode(lambda at, size: read(esp_offset + at, size))
    except DataLossError:
        return False
    return not any(path.lower().startswith(_OF_A_NODE) for path in paths)


def _without_table(read: Read, disk_bytes: int) -> Content:
    first = read(0, _LOOKED_AT_BYTES)
    last = read(disk_bytes - _LOOKED_AT_BYTES, _LOOKED_AT_BYTES)
    if not any(first) and not any(last):
        return Content(holding=Holding.BLANK)
    if first[510:512] != b"\x55\xaa":
        return Content(holding=Holding.OTHER)
    names: list[str] = []
    for number in range(4):
        _, kind, _, sectors = _MBR_ENTRY.unpack_from(first, _MBR_TABLE + number * _MBR_ENTRY.size)
        if sectors and kind not in {0, _PROTECTIVE}:
            names.append(_named(f"MBR type {kind:02x}", sectors * SECTOR_BYTES))
    return Content(holding=Holding.OTHER, partitions=tuple(names))


def _named(name: str, size_bytes: int) -> str:
    shown = "".join(each if each.isprintable() else "?" for each in name) or "unnamed"
    return f"{shown} {size_bytes // MIB} MiB"
