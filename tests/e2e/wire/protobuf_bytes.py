# SPDX-License-Identifier: Apache-2.0
"""Protobuf by hand: what is on the wire, without any definition of messages.

A message is written as pairs of field number and value, and read back as lists of raw values by
field number. So a test sees the very numbers that a foreign client sees.
"""

from collections.abc import Sequence
from typing import Final

Value = int | str | bytes
VARINT: Final = 0
LENGTH_DELIMITED: Final = 2
_FIXED_BYTES: Final = {1: 8, 5: 4}


def encode(*fields: tuple[int, Value]) -> bytes:
    """Write a message; integers and enums as varints, negative ones in two's complement."""
    parts: list[bytes] = []
    for number, value in fields:
        if isinstance(value, int):
            parts += [_varint(number << 3 | VARINT), _varint(value % (1 << 64))]
        else:
            data = value.encode() if isinstance(value, str) else value
            parts += [_varint(number << 3 | LENGTH_DELIMITED), _varint(len(data)), data]
    return b"".join(parts)


class Fields:
    """The fields of one message: numbers to raw values, in the order of the wire.

    Raises:
        ValueError: these bytes are no message.
    """

    def __init__(self, data: bytes) -> None:
        self.raw = data
        self._values: dict[int, list[int | bytes]] = {}
        position = 0
        while position < len(data):
            key, position = _read_varint(data, position)
            number, kind = key >> 3, key & 7
            value: int | bytes
            if kind == VARINT:
                value, position = _read_varint(data, position)
            else:
                if kind == LENGTH_DELIMITED:
                    length, position = _read_varint(data, position)
                elif kind in _FIXED_BYTES:
                    length = _FIXED_BYTES[kind]
                else:
                    raise ValueError(f"wire type {kind}")
                value = data[position : position + length]
                position += length
                if position > len(data):
                    raise ValueError("truncated")
            self._values.setdefault(number, []).append(value)

    @property
    def numbers(self) -> Sequence[int]:
        """Which fields are there, sorted."""
        return sorted(self._values)

    def __contains__(self, number: int) -> bool:
        return number in self._values

    def integer(self, number: int) -> int:
        """A scalar; 0 when it is absent, as proto3 has it."""
        value = self._values.get(number, [0])[-1]
        assert isinstance(value, int), f"field {number} is no varint"
        return value

    def data(self, number: int) -> bytes:
        """Bytes; empty when absent."""
        value = self._values.get(number, [b""])[-1]
        assert isinstance(value, bytes), f"field {number} is no bytes"
        return value

    def text(self, number: int) -> str:
        """A string; empty when absent."""
        return self.data(number).decode()

    def message(self, number: int) -> "Fields":
        """A message; an empty one when absent."""
        return Fields(self.data(number))

    def messages(self, number: int) -> "Sequence[Fields]":
        """A repeated message."""
        found = []
        for value in self._values.get(number, []):
            assert isinstance(value, bytes), f"field {number} is no message"
            found.append(Fields(value))
        return found


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError("truncated")
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        shift += 7
        if byte < 0x80:
            return value, position
