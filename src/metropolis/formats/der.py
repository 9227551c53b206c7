# SPDX-License-Identifier: Apache-2.0
"""The little of ASN.1's distinguished encoding (X.690) that signatures of firmware images need.

Writing is deterministic by definition. Reading is strict: `Reader` walks one level of elements and
refuses lengths that are not minimal or leave the buffer.
"""

from datetime import UTC, datetime
from typing import Final

from metropolis.base.errors import DataLossError

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
NULL: Final = 0x05
OBJECT_IDENTIFIER: Final = 0x06
SEQUENCE: Final = 0x30
SET: Final = 0x31
_UTC_TIME: Final = 0x17
_LONG_FORM: Final = 0x80  # a length from here on has a length of its own


def element(tag: int, *content: bytes) -> bytes:
    """Return an element of a tag in one byte."""
    body = b"".join(content)
    size = len(body)
    if size < _LONG_FORM:
        return bytes((tag, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + body


def sequence(*elements: bytes) -> bytes:
    """Return a SEQUENCE."""
    return element(SEQUENCE, *elements)


def set_of(*elements: bytes) -> bytes:
    """Return a SET OF, its elements in the order that DER prescribes."""
    return element(SET, *sorted(elements))


def explicit(number: int, *elements: bytes) -> bytes:
    """Return elements inside of a context-specific, constructed tag."""
    return element(0xA0 | number, *elements)


def integer(number: int) -> bytes:
    """Return a non-negative INTEGER."""
    assert number >= 0
    return element(INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def octets(content: bytes) -> bytes:
    """Return an OCTET STRING."""
    return element(OCTET_STRING, content)


def null() -> bytes:
    """Return NULL."""
    return element(NULL)


def object_identifier(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER written as "1.2.840…"."""
    first, second, *rest = (int(part) for part in dotted.split("."))
    content = bytearray()
    for number in (first * 40 + second, *rest):
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(0x80 | number & 0x7F)
        content += bytes(reversed(groups))
    return element(OBJECT_IDENTIFIER, bytes(content))


def utc_time(moment: datetime) -> bytes:
    """Return a UTCTime of whole seconds, which knows the years 1950 to 2049."""
    assert moment.tzinfo is not None
    moment = moment.astimezone(UTC)
    assert 1950 <= moment.year < 2050  # noqa: PLR2004 - the limits of the type
    return element(_UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode("ascii"))


class Reader:
    """Walks the elements of one level.

    Raises:
        DataLossError: from every method: what stands there is not what was asked for.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    @property
    def is_at_end(self) -> bool:
        """Whether all of it was read."""
        return self._offset == len(self._data)

    def peek(self) -> int:
        """Return the next element's tag; 0 at the end."""
        return 0 if self.is_at_end else self._data[self._offset]

    def whole(self, tag: int) -> bytes:
        """Return the next element, head included."""
        start = self._offset
        self.content(tag)
        return self._data[start : self._offset]

    def content(self, tag: int) -> bytes:
        """Return the content of the next element, which must have this tag."""
        data, offset = self._data, self._offset
        if len(data) < offset + 2 or data[offset] != tag:
            raise damaged(f"tag {tag:#04x} is missing at byte {offset}")
        size = data[offset + 1]
        offset += 2
        if size >= _LONG_FORM:
            count = size & 0x7F
            size = int.from_bytes(data[offset : offset + count], "big")
            if not 0 < count <= 4 or size < max(_LONG_FORM, 1 << 8 * (count - 1)):  # noqa: PLR2004  # lengths of X.690 8.1.3, four bytes at most here
                raise damaged(f"an impossible length at byte {offset}")
            offset += count
        if offset + size > len(data):
            raise damaged(f"an element is cut at byte {offset}")
        self._offset = offset + size
        return data[offset : offset + size]

    def inside(self, tag: int) -> "Reader":
        """Return a reader of the next element's content."""
        return Reader(self.content(tag))


def damaged(reason: str) -> DataLossError:
    """Return what damaged DER is refused with."""
    return DataLossError(f"a signature cannot be read: {reason}")
