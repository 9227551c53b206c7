# SPDX-License-Identifier: Apache-2.0
"""What the firmware may start, and in which order: Boot####, BootOrder, BootNext.

A load option of ours names a file on a partition of a GPT disk by the short device path HD(…)/File,
which the firmware completes by looking for the partition on all disks (UEFI 2.10, 3.1.2).
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from metropolis.base.errors import DataLossError, InvalidArgumentError
from metropolis.formats.efi.variables import GLOBAL, VariableName, encode_text

ACTIVE: Final = 0x1
OPTION_BYTES_MAX: Final = 1 << 16

_HEAD: Final = struct.Struct("<IH")
_NODE: Final = struct.Struct("<BBH")
_HARD_DRIVE: Final = struct.Struct("<IQQ16sBB")
_MEDIA_DEVICE: Final = 4
_HARD_DRIVE_KIND: Final = (_MEDIA_DEVICE, 1)
_FILE_KIND: Final = (_MEDIA_DEVICE, 4)
_END: Final = b"\x7f\xff\x04\x00"
_GPT: Final = 2
_GUID_SIGNATURE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOnPartition:
    r"""A file on a partition of a GPT disk.

    Attributes:
        partition_number: From 1.
        first_lba: Where the partition begins, in sectors of the disk.
        sectors: How many it has.
        path: With backslashes, from the root, e.g. "\EFI\metropolis\boot-a.efi".
    """

    partition_number: int
    first_lba: int
    sectors: int
    partition_guid: UUID
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOption:
    """One thing that can be started.

    Attributes:
        description: What the firmware's menu shows.
        target: None where a device path is not of our form (a network card, a shell).
        data: Handed to the program.
    """

    description: str
    target: FileOnPartition | None
    attributes: int = ACTIVE
    data: bytes = b""

    @property
    def is_active(self) -> bool:
        """Whether the firmware tries it of its own accord."""
        return bool(self.attributes & ACTIVE)


def boot_variable(number: int) -> VariableName:
    """Return the variable of a load option, e.g. Boot001A."""
    assert 0 <= number <= 0xFFFF  # noqa: PLR2004  # UEFI: Boot and four hexadecimal digits
    return VariableName(name=f"Boot{number:04X}", vendor=GLOBAL)


def boot_number(name: str) -> int | None:
    """Return the number in a name such as Boot001A; None for every other name."""
    digits = name.removeprefix("Boot")
    if len(digits) != 4 or name == digits or set(digits) - set("0123456789ABCDEF"):  # noqa: PLR2004  # UEFI: Boot and four hexadecimal digits
        return None
    return int(digits, 16)


def encode(option: LoadOption) -> bytes:
    """Return the value of a Boot#### variable.

    Raises:
        InvalidArgumentError: the path is not absolute, or the description holds a NUL.
    """
    target = option.target
    assert target is not None, "only what we know can be written"
    if not target.path.startswith("\\") or "/" in target.path or "\0" in option.description:
        raise InvalidArgumentError(f"the firmware cannot start {target.path!r}")
    hard_drive = _HARD_DRIVE.pack(
        *(target.partition_number, target.first_lba, target.sectors),
        *(target.partition_guid.bytes_le, _GPT, _GUID_SIGNATURE),
    )
    path = _node(_HARD_DRIVE_KIND, hard_drive) + _node(_FILE_KIND, encode_text(target.path)) + _END
    head = _HEAD.pack(option.attributes, len(path))
    return head + encode_text(option.description) + path + option.data


def decode(value: bytes) -> LoadOption:
    """Read the value of a Boot#### variable.

    Raises:
        DataLossError: it is cut or damaged.
    """
    if not _HEAD.size <= len(value) <= OPTION_BYTES_MAX:
        raise _damaged("its length is impossible")
    attributes, path_bytes = _HEAD.unpack_from(value)
    end = _HEAD.size
    while value[end : end + 2] != b"\0\0":
        if end + 2 > len(value):
            raise _damaged("its description does not end")
        end += 2
    description = value[_HEAD.size : end].decode("utf-16-le", "replace")
    path = value[end + 2 : end + 2 + path_bytes]
    if len(path) < path_bytes:
        raise _damaged("its device path is cut")
    return LoadOption(
        description=description,
        target=_target(list(_nodes(path))),
        attributes=attributes,
        data=value[end + 2 + path_bytes :],
    )


def encode_order(numbers: Sequence[int]) -> bytes:
    """Return the value of BootOrder, or of BootNext for one number."""
    return struct.pack(f"<{len(numbers)}H", *numbers)


def decode_order(value: bytes) -> Sequence[int]:
    """Return the numbers in BootOrder, BootNext or BootCurrent.

    Raises:
        DataLossError: it is cut.
    """
    if len(value) % 2:
        raise _damaged("a boot order is cut")
    return struct.unpack(f"<{len(value) // 2}H", value)


def _node(kind: tuple[int, int], content: bytes) -> bytes:
    return _NODE.pack(*kind, _NODE.size + len(content)) + content


def _nodes(path: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    offset = 0
    while path[offset : offset + 1] not in {b"", b"\x7f"}:
        if offset + _NODE.size > len(path):
            raise _damaged("its device path is cut")
        major, minor, size = _NODE.unpack_from(path, offset)
        if size < _NODE.size or offset + size > len(path):
            raise _damaged("its device path is damaged")
        yield (major, minor), path[offset + _NODE.size : offset + size]
        offset += size


def _target(nodes: Sequence[tuple[tuple[int, int], bytes]]) -> FileOnPartition | None:
    """The file that nodes name; what stands before the partition is the firmware's to find."""
    kinds = [kind for kind, _ in nodes]
    if kinds[-2:] != [_HARD_DRIVE_KIND, _FILE_KIND]:
        return None
    drive, file = nodes[-2][1], nodes[-1][1]
    if len(drive) != _HARD_DRIVE.size:
        raise _damaged("its partition has an impossible length")
    number, first, sectors, guid, table, signature = _HARD_DRIVE.unpack(drive)
    if (table, signature) != (_GPT, _GUID_SIGNATURE):
        return None
    return FileOnPartition(
        partition_number=number,
        first_lba=first,
        sectors=sectors,
        partition_guid=UUID(bytes_le=guid),
        path=file.decode("utf-16-le", "replace").partition("\0")[0],
    )


def _damaged(reason: str) -> DataLossError:
    return DataLossError(f"a boot entry of the firmware cannot be read: {reason}")
